"""Common English words, which are public, so that no row can be told by them.

They are words of everyday speech, and what ten records or more, of at least two public data sets, write in
lower case: MedMCQA, MedQA, the medical part of MMLU, PubMedQA, MedSafetyBench, and the harmless half of
HH-RLHF. Single words alone were counted, so no text of theirs is here.
"""

_GRAMMAR = """
a about above after again against all almost along already also although always am among an and another any
anyone anything are aren around as at away back be because been before behind being below between both but by
came can cannot come could couldn did didn do does doesn doing don done down each either else even ever every
few for from further get go going gone got had hadn has hasn have haven having he her here hers herself him
himself his how however i if in instead into is isn it its itself just know let like ll many may me might more
most much must my myself near neither never no nor not nothing now of off often ok okay on once one ones only
onto or other others our out over own per quite rather re really right said same say see seem she should
shouldn since so some something still such than that the their them themselves then there these they thing
things this those though through thus to together too toward two uh um under until up upon us ve very was wasn
we well went were weren what when where whether which while who whom whose why will with within without won
would wouldn yeah yes yet you your yours yourself
"""
_TEXT = """
abdomen abdominal abduction ability able abnormal abnormalities abnormality abortion abscess absence absent
absolute absolutely absorbed absorption abuse academic accept acceptable acceptance accepted access accessible
accessing accessory accident accidentally accompanied accomplished accordance according account accounting
accumulation accuracy accurate accurately acetaminophen acetyl acetylcholine ache aches achieve achieved
aching acid acidic acidosis acids acne acquired across act actin acting action actions activated activation
active actively activities activity acts actual actually acute acutely add added addiction adding addition
additional address addressed addresses addressing adenocarcinoma adenoma adequate adequately adhere adherence
adhesion adjacent adjusted adjusting adjustment adjuvant administer administered administering administration
admission admissions admits admitted adnexal adolescence adopted adrenal adult adults advanced advantage
advantages adverse advice advise advised advocate aerobic affect affected affecting affects affinity afford
afraid african afternoon agar age aged agencies agent agents ages aggressive agitation ago agonist agree
agreement ahead aid aim aimed aims air airway albumin albuterol alcohol alcoholic aldosterone alert algorithm
alive alkaline alkalosis allergic allergies allergy allow allowed allowing allows alloy alone alpha alright
alrighty alter altered alternative alveolar ambulance ambulatory amenorrhea american amino amniotic amount
amounts amplitude anaemia anaesthesia anal analgesia analgesic analgesics analyses analysis analyze analyzed
anatomic anatomical anatomy anemia anesthesia anesthetic aneurysm angina angiography angle angry animal
animals ankle ankles annual anomalies anomaly anorexia answer answered answering answers antagonist antenatal
anterior anti antibiotic antibiotics antibodies antibody anticoagulant antigen antigens anxiety anxious
anymore anyway anyways anywhere aorta aortic apartment apex apical apnea apoptosis app apparent appear
appearance appearing appears appendectomy appetite apple appliance application applied apply applying
appointment appointments appreciate approach appropriate appropriately approval approved approximately april
arch area areas argument arise arises arising arm arms army arouse arranged arrangement arrest arrested
arrival arterial arteries artery arthritis article articles articular artificial ascending asian ask asked
asking asks asleep aspect aspects aspiration aspirin assay assess assessed assessing assessment assessments
assigned assist assistance assistant assisted associated association associations assume assuming asthma
asymptomatic ataxia athletes atorvastatin atresia atrial atrium atrophy atropine attached attachment attack
attacked attacks attempt attempting attempts attending attention attitude attracted attractive attributed
attributes atypical auditory august aunt aureus auscultation authorities authority authorization authors
autoimmune automatically autonomy autopsy autosomal available average avoid avoided avoiding avoids aware
awareness awesome axial axillary axis babies baby bacilli backache background bacon bacteria bacterial bad bag
bake balance balanced ball balloon banana band bandage bank bar barrier basal base based baseline basement
bases basic basically basis basketball bathe bathroom battery beach bean beans beard bearing beat became
become becomes becoming bed bedroom beds bee beef beer beers began begin beginning begins begun behavior
behavioral behaviors behaviour belief beliefs believe believed believes belly belongs bend beneficial benefit
benefits benign berry best beta better beverages beyond bias biased bicarbonate bicycle big bigger bike
bilateral bilaterally bile biliary bilirubin billing bind binding binds biochemical biological biopsies biopsy
bipolar bird birth bit bite bitten bitter black bladder blade bled bleed bleeding blind blister blisters
bloated bloating block blocker blockers blocking blocks blog blood bloody blot blue blunt bodies body bomb
bond bonding bonds bone bones bony book books border borders born boss bottle bottles bottom bought bound
bowel box boy boyfriend boys brain branch branches brand bread break breakdown breakfast breaking breaks
breast breastfeeding breasts breath breathe breathing breathlessness breaths bridge brief bright bring broad
broke broken bronchial brother brought brown bruise bruises bruising brush buccal bug build building built
bump bumps bunch burden burger burn burned burning burns bus business butter buttock buttocks buy bye bypass
bypasses cake calcification calcium calculate calculated calculation calculus calf call called calls calves
camera canal canals cancer cancers candy cane canine cannula capable capacity capillary capsule capsules car
carbohydrate carbon carcinoma card cardiac cardiovascular care career careful carefully caries carotid
carpenter carried carrier carries carrot carry carrying cars cartilage case cases cashier cast casts casualty
cat cataract cataracts catch categories categorized category catheter caucasian caught causal causative cause
caused causes causing cavity ceftriaxone cell cells cellular center centers central centre cerebellum cerebral
cerebrospinal certain certainly cervical cervix cesarean cessation chain chains chair challenge challenging
chance chances change changed changes changing channel channels character characteristic characterized charge
chart cheating check checked checkup cheek cheeks cheese chemical chemicals chemotherapy chest chi chicken
child childhood children chill chills chin chinese chloride chocolate choice choices cholesterol choose
choosing chosen chromosome chromosomes chronic church cigar cigarette cigarettes circulating circulation
circumference circumstances cirrhosis cities citizens city claim claiming claims clarify class classes
classification classified clean cleaned cleaning clear clearance clearly cleavage cleft clerk climb climbing
clinic clinical clinically clinicians clinics clonic close closed closely closer closest closure clot clothes
clothing clotting cm co coagulation coarse coat cocaine code coding coefficient coerce coffee cognitive cohort
cold coli colitis collagen collapse colleague colleagues collect collected collecting collection college
collision colon colonic colonoscopy color colorectal colored colour com coma combination combined combining
comes comfortable coming commands commit committed committing common commonest commonly communicate
communication communities community companies company comparable compare compared comparing comparison
compassionate competitive complaining complains complaint complaints complete completed completely completion
complex compliance complicated complication complications comply component components composed composite
composition compound compounds comprehensive compression compromise compromising computed computer conceal
concentrate concentration concentrations concept conception concern concerned concerning concerns conclude
concluded concomitant condition conditions condoms conduct conducted conducting conduction confidence
confidential confined confirm confirmed confirms conflict conflicts confounding confused confusion congenital
congestive congratulations conjunctival connected connection connective conscious consciousness consecutive
consensus consent consequences consider considerable consideration considerations considered considering
consist consisted consistent consistently consisting consists consolidation constant constipated constipation
constriction construction consult consultation consumed consuming consumption contact contacts contain
containing contains contamination content contents context continue continued continues continuous
contraception contraceptive contraceptives contractility contraction contractions contrast contribute
contributes contributing contribution control controlled controlling controls controversial convenience
conventional conversation conversations conversion converted convince cook cookie cooking cool copies copper
copy cord core corn coronary correct corrected correction correctly correlate correlated correlation
corresponding corresponds corrosion cortex cortical corticosteroid cortisol cosmetic cost costal costs couch
cough coughing counseling count counter countries country counts couple course cousin cover coverage covered
covering cow crack crackles cramp cramps cranial crazy cream create created creatine creating creatinine
credit crest crime crimes criminal crisis criteria critical critically cross crosses crown crucial crutches
crystals cuff cultural culture cultures cup cups cure curious current currently curve curves customers cut
cutaneous cuts cutting cyanosis cyanotic cyclase cycle cycles cyst cystic cysts cytology cytometry cytoplasm
dad daddy daily damage damaged danger dangerous dark data database date dating daughter day days de dead deal
dealing death deaths decade decades december deception decide decided decides decision decisions decline
declined decrease decreased decreases decreasing dedicated deep defect defective defects defense deficiency
deficient deficit deficits define defined definitely definition definitive deformity degeneration degradation
degree degrees dehydration dehydrogenase delay delayed deliberately delivered delivery delta demand dementia
demographic demographics demonstrate demonstrated demonstrates denied denies dense density dental dentist
dentistry deny department depend dependent depending depends deposition deposits depressed depression
depressive depth derived dermatitis dermatologist descending descent describe described describes describing
description descriptive deserve deserves design designed desirable desire desired despite destroy destruction
detachment detail detailed details detect detectable detected detecting detection determination determine
determined determining dev develop developed developing development developmental develops deviation device
devices dexamethasone diabetes diabetic diagnose diagnosed diagnoses diagnosing diagnosis diagnostic dialysis
diameter diaphoretic diaphragm diarrhea diastolic die died dies diet dietary differ difference differences
different differential differentiate differentiated differently difficult difficulties difficulty diffuse
diffusion digital dignity dilatation dilated dilation dimension dimensions diminished dinner dioxide direct
directed direction directly dirty disability disc discharge discharged discloses disclosing discoloration
discomfort discourage discovered discriminate discrimination discriminatory discuss discussed discussing
discussion discussions disease diseases dislocation disorder disorders displaced displacement dissection
distal distance distended distention distinct distinguish distress distributed distribution disturbances
diuretics diverse divided divides division dizziness dizzy dl doc doctor doctors document documentation
documented dog dogs domain dominant donor door dopamine dorsal dose doses double doubt downward dozen drainage
drawn dress drink drinker drinking drinks drive driven driver driving drop drops drove drug drugs drunk dry
duct ducts due dull dura duration during duty dying dynamic dysfunction dysplasia dyspnea ear earache earlier
early ears easier easiest easily easy eat eating eats echocardiogram economic economy ed edema edge edition
education educational effect effective effectively effectiveness effects efficacy efficient effort efforts
effusion egg eggs eight eighteen eighth eighty ejection elaborate elastic elbow elbows elderly elective
electric electrician electrolyte electrolytes electron electronic elements elevated elevation eleven eligible
eliminated email embolism embryo emergency emotional emotions empathy emphasize employed employees empty en
enalapril enamel encountered encourage end endanger ended endocarditis endocrine endogenous endometrial
endoscopic endoscopy endothelial energy enforcement engage engaging engine engineer english enhance enhanced
enhancement enhancing enjoy enlarged enlargement enough enrolled ensure ensuring enter entering enters entire
entitled entry environment environmental environments enzyme enzymes epigastric epilepsy epinephrine episode
episodes episodic epithelial epithelium equal equality equally equation equipment equitable equity equivalent
error errors eruption erythema erythematous escape esophageal especially essential establish established
estimate estimated estimates estimation estrogen etc ethical ethically ethics ethnic ethnicity etiology
european evaluate evaluated evaluating evaluation evaluations evening event events eventually everybody
everyone everything evidence evident ex exacerbation exact exactly exam examination examinations examine
examined examining example examples exams excellent except exception excess excessive excessively exchange
excision exclude excluded exclusively excretion exercise exercises exertion exhibit exhibited exist existence
existing exists expansion expect expectancy expected expense expensive experience experienced experiences
experiencing experiment experimental experiments expert expertise expiration expiratory explain explained
explaining explains explanation explicit exploration explore explored exposed exposure express expressed
expression extended extending extends extension extensive extent external extra extracellular extracted
extraction extreme extremely extremities extremity eye eyes face facial facilitate facilities facility fact
factor factors facts fail failed failing failure faint fainted fainting fair fairly fairness fake falciparum
fall fallen falling falls false falsely falsify familial familiar families family fantastic far farm farmer
fascia fast faster fasting fat fatal father fatigue fatigued fatty fault favor favorable favorite fear
feasibility feasible feature features febrile february fee feed feedback feeding feel feeling feelings feels
feet fell felt female females femoral femur ferritin fertilization fetal fetus fever fevers fewer fiber fibers
fibres fibrillation fibrinogen fibrosis fibrous field fields fifteen fifth fifty fight figure file files fill
filled filling film filter filtration final financial find finding findings finds fine finger fingers finish
finished fire fired firefighter fireman firm first fish fistula fit fits five fix fixation fixed flank flat
flew flexion flight floor flow flu fluid fluids fluoride fly focal focus focused fold folds folic follicular
follow followed following follows food foods foot foramen force forced forces forcing forearm forehead foreign
forget forgot forgotten form formation formed former forming forms formula forty forward fossa foul found four
fourteen fourth fraction fracture fractures fragments framework fraud fraudulent free freedom french frequency
frequent frequently fresh friday friend friends front frontal frustrated ft fulfill full fully fun function
functional functioning functions fundamental fundus fungal funny fusion future gain gained gait gallbladder
gallon game games gamma gap garage garden gas gastrectomy gastric gave gay gender gene general generalized
generally generate generated generating generation genes genetic genetically genital genitalia genome genotype
genuine german gestation gestational gets getting giant gingiva gingival girl girlfriend girls give given
gives giving glad gland glands glass glasses glaucoma global globulin glomerular glove gloves glucose glycogen
glycogenolysis glycolysis glycoprotein gm goal goals goes gold gonadotropin good goodbye gotten government
grab grade gradient gradual gradually graft gram grams grandfather grandma grandmother grandpa granules grape
gravida gravity gray great greater greatest green grew grey groin groove gross ground group groups grow
growing grown growth guarding guess guessed guidance guide guided guidelines gums gun gut guy gym habit habits
hack hacking hair half ham hand handle handling hands happen happened happening happens happy hard harder harm
harmful hat head headache headaches healed healing health healthcare healthy hear heard hearing heart
heartburn heat heated heavy heel heels height held hello help helped helpful helping helps hematocrit hematoma
hematuria hemodynamic hemoglobin hemolytic hemorrhage hemorrhagic hence heparin hepatic hepatitis hepatocytes
hepatomegaly hereditary hernia herniation heroin herpes hidden hide high higher highest highly highway hill
hip hips hispanic histologic histological histology histone history hit hives hmm hold holding hole
holosystolic home homeless honest honestly honesty honey hope hoped hopefully horizontal hormone hormones
horse hospital hospitalized hospitals host hot hour hours house hr http https huge human humans humerus
hundred hungry hurt hurting husband hydrocephalus hydrogen hydrostatic hygiene hyperlipidemia hyperplasia
hypertension hypertensive hypertrophy hypoglycemia hypoplasia hypotension hypothalamus hypothesis hypothesized
hypothyroidism hypoxia ibuprofen ice icterus idea ideal ideas identical identification identified identify
identifying identity idiopathic ignore ii iliac ill illegal illegally illicit illness illnesses image images
imagine imaging immediate immediately immigration immune immunity immunization immunizations immunoglobulin
impact impaired impairment imperfecta implant implantation implementation implemented implicated implications
importance important impression improve improved improvement improves improving impulse inability inadequate
inappropriate inch inches incidence incident incision incisor incisors inclination include included includes
including inclusion income incomplete inconsistently incontinence incorrect increase increased increases
increasing increasingly independent independently index indian indicate indicated indicates indicating
indication indications indicative indicator indicators indices individual individuals induce induced induction
industry ineffective inequality infant infants infarction infected infection infections infectious inferior
infiltrates infiltration inflammation inflammatory influence influenced influences influenza influenzae inform
information informed informing infusion ingestion inguinal inhalation inhaled inhaler inheritance inherited
inhibit inhibiting inhibition inhibitor inhibitors inhibitory inhibits initial initially initiate initiated
initiation injected injection injections injured injuries injury inner inserted insertion inside insignificant
insomnia inspection inspiration inspiratory instability instance instances institution institutions
instruction instructions instrument instruments insufficiency insufficient insulin insult insurance intact
intake integrity intelligence intended intense intensity intensive intent intention intentionally inter
interaction interactions intercostal intercourse interest interested interesting interests interfere
intermediate intermittent internal international internet interpret interpretation interstitial interval
intervals intervention interventions interview interviews intestinal intestine intolerance intra intracellular
intracranial intrahepatic intraoperative intrauterine intravascular intravenous intravenously introduced
intubated intubation invasion invasive investigate investigated investigating investigation investigations
investigator investment involve involved involvement involves involving ion ions ipsilateral iron irregular
irrelevant irresponsible irritability irritable irritation ischemia ischemic isolated isolation issue issues
italian itch itching itchy items jacket jail january japanese jaundice jaw jerk job jobs join joint joints
jokes judge judgment jugular juice july jump junction june justice justified justify keep keeping kept key kg
kick kid kidney kidneys kids killer kinase kind kinds kitchen knee knees knew knife knowing knowledge known
knows lab label labial labor laboratory labour labs lack lacks lactate lady lake language laparoscopic
laparoscopy laparotomy large largely larger largest laryngeal larynx laser last lasted lasting late lately
later lateral latest latter law laws lawyer layer layers lb lead leading leads leakage learn learned learning
least leave leaves leaving led left leg legal legally legitimate legs length lesion lesions less lesser
lethargic lethargy letter leukemia leukocyte leukocytes level levels license licensed lie lies life lifestyle
lift ligament light likelihood likely limb limbs limit limited limiting limits line linear lines lingual
lining link linked links lip lipid lipoprotein lips liquid liquor lisinopril list listed listen listened
literature little live lived liver lives living load loading lobe lobes local localized locally locate located
location locations lock locked log logistic long longer longitudinal look looked looking looks loop loose lose
loss lost lot loud lovely low lower lowest luckily lumbar lumen lump lumps lunch lung lungs lupus lying lymph
lymphatic lymphocyte lymphocytes lymphocytic lymphoma ma machine macrophages macular maculopapular madam made
magnetic main mainly maintain maintained maintaining maintenance major majority make makes making malaise
malaria male males malformation malformations malignancy malignant malpractice man manage managed management
manager managing mandatory mandible mandibular manifestation manifestations manipulate manipulating manner
manual march margin marginal margins marijuana marked markedly marker markers market married marrow mask mass
masses massive mast matched material materials maternal matrix matter matters maturation maxilla maxillary
maximal maximum maybe meal meals mean means meant measure measured measurement measurements measures measuring
meat mechanic mechanical mechanism mechanisms media medial median mediastinal mediated medical medically
medication medications medicine medicines medium medulla meet meeting melanoma mellitus member members
membrane membranes memory men menarche meningeal meningitis menses menstrual mental mentally mention mentioned
mentions mesial message messages met metabolic metabolism metabolite metal metastases metastasis metastatic
metformin method methods metoprolol mexican mg micro microscopic microscopy mid middle midline midnight
migraine migraines migration mild mildly mile miles milestones military milk million min mind mineral minimal
minimize minimum minor minority minute minutes misinformation mislead misleading missed missing mistake misuse
mitochondria mitochondrial mitral mix mixed mixture ml mm mmol mobile mobility modalities mode model models
moderate moderately modern modification modified modify moist molar molars molecular molecule molecules mom
moment mommy monday money monitor monitoring month monthly months mood moral morally morbidity morning
morphine morphology mortality mostly mother mothers motility motion motor mountain mouse mouth move moved
movement movements moves movie movies moving mucosa mucosal mucous mucus multi multiple multivitamin murmur
muscle muscles muscular music mutation mutations myalgia myeloma myocardial myosin nail nails name named names
narrow nasal national natural naturally nature nausea nauseous navy nearby nearly necessarily necessary
necessity neck necrosis need needed needle needs negative negatively neglect neighbor neighbors neonatal
neonate neonates neoplasia nephew nephropathy nerve nerves nervous net network neural neurologic neurological
neurologist neurons neuropathy neutral neutrophils new newborn newborns newly news next ng nice niece night
nightly nine nineteen ninety ninth nitric nitrogen nobody node nodes nodular nodule nodules noise non none
nontender noon norepinephrine normal normally nose notable note noted notes notice noticed noticing novel
november nuclear nuclei nucleotide nucleus numb number numbers numbness numerous nurse nurses nursing
nutrition nutritional obese obesity object objective objects obligated obligation oblique observation
observational observations observed obstruction obstructive obtain obtained obtaining obvious occasional
occasionally occasions occipital occlusal occlusion occult occur occurred occurrence occurring occurs october
ocular odds offensive offer offered offering offers office officer official offspring oil ointment old older
ongoing onion online onset open opening opens operated operating operation operations operative ophthalmic
opinion opinions opioid opioids opportunity opposed opposite optic optimal option options oral orally orange
orbit orbital order ordered org organ organic organism organisms organization organizations organs orientation
oriented origin original orthodontic os osteoarthritis osteoporosis otherwise ounce ounces outcome outcomes
outer outpatient output outside ovale ovarian ovaries ovary overall overdose oversight overweight oxidase
oxidation oxidative oxide oximetry oxygen oz pack packed packs page paid pain painful painkiller painkillers
painless pains pair pairs palatal palate palatine pale palliative pallor palms palpable palpated palpation
palpitations palsy pancreatic pancreatitis panel pants paper para parallel paralysis parameters parathyroid
parent parental parents parietal park parotid part partial partially participants participate participated
participation particular particularly parties partner partners parts party pass passage passed passes passing
passive past pasta paste patch patches path pathogen pathogenesis pathologic pathological pathology pathway
pathways patient patients pattern patterns pay paying peak pediatric pediatrician peer pelvic pelvis
penetration penicillin penis people pepper peptide perceived percent percentage percentile perception
percussion percutaneous perfect perforation perform performance performed performing perfusion perhaps
periapical period periodontal periodontitis periods peripheral periphery permanent permeability permission
persistent person personal personality personalized personally persons perspective persuade pet petechiae pg
pharmaceutical pharmacy pharyngeal pharynx phase phases phenomenon phone phosphatase phosphate phosphorylase
photograph phrase physical physically physician physicians physiologic physiological pick picture piece pieces
pig pigment pill pills pilot pink pitched pitting pituitary pizza place placebo placed placement placenta
places placing plan plane planned planning plans plant plants plaque plaques plasma plastic plate platelet
platelets plates play player playing plays please pleasure pleural plexus plumber plus pneumonia pneumothorax
pocket point points poison poisoning pole police policies policy political polymerase polymerization
polysaccharide pool poor poorer poorly popular population populations pork portion pose position positions
positive positively possess possibility possible possibly post posterior postoperative potassium potato potent
potential potentially pouch pound pounds powder power powered powerful practice practices practitioner
practitioners pre precise predict predicted prediction predictive predictor predictors predicts prednisone
predominant predominantly preeclampsia prefer preference preferences preferred pregnancies pregnancy pregnant
prejudice premature premolar prenatal preoperative preparation prepare prepared prescribe prescribed
prescribing prescription prescriptions presence present presentation presented presenting presents
preservation preserved pressure pressures pretend preterm pretty prevalence prevalent prevent prevented
preventing prevention prevents previous previously price primarily primary principal principle principles
print prior prioritizes prioritizing privacy private probability probable probably probe problem problematic
problems procedure procedures proceed process processes processing produce produced produces producing product
production productive products profession professional professionals profile profit profound profuse prognosis
prognostic program programme programmed programming programs progress progression progressive progressively
project proliferation prolonged prominent promise promote promotes promoting prone proper properly properties
property prophylactic prophylaxis proportion proportional proportions proposed prospective prospectively
prostate prosthesis protect protected protection protective protein proteins proteinuria prothrombin protocol
protocols prove proven provide provided provider providers provides providing proximal psychiatric
psychiatrist psychological psychotic pterygoid pubic public publicly published puke pull pulmonary pulp pulse
pulses pump punch puncture pupils purchase purple purpose purposes purpura purulent pus push put puts putting
pyruvate quadrant qualifications qualified quality quantitative quarter question questioning questionnaire
questionnaires questions quick quickly quiet quit race races racial radial radiates radiating radiation
radical radiograph radiographic radiographs radiologist radiologists radiotherapy radius raise raised raises
random randomized randomly range ranged ranges rank rapid rapidly rare rarely rash rashes rat rate rated rates
rating ratings ratio ratios raw ray reach reached reaching react reaction reactions reactive read reading
readings ready real realistic reality reason reasonable reasons rebound recall recalls receive received
receives receiving recent recently receptor receptors recessive recognition recognize recognized recommend
recommended recommends reconstruction record recorded recording records recovery recreational recruited rectal
rectum recurrence recurrent red redness reduce reduced reduces reducing reductase reduction refer reference
referral referred referring refers refill refills reflect reflex reflexes reflux refractory refuse refuses
refusing regard regarding regardless regimen region regional regions register registered regression regular
regularly regulated regulations regulatory regurgitation relapse related relation relationship relationships
relative relatively relatives relaxation release released releasing relevant reliability reliable relief
relieved religion religious rely remain remainder remained remaining remains remarkable remember remembered
remote removal remove removed removing renal repair repeat repeated repeatedly replace replaced replacement
report reported reporting reports represent representative represents reproductive reputation request requests
require required requirement requirements requires requiring research researcher researchers resection
resembles residence resident residential residents residual resistance resistant resolution resolve resolved
resonance resorption resource resources respect respectful respective respectively respiration respirations
respiratory respond responding response responses responsibility responsible responsive rest restaurant
resting restless restoration restricted restriction result resulted resulting results resuscitation retained
retardation retention reticulum retina retinal retinopathy retired retirement retraction retrograde
retrospective return returned returns reveal revealed reveals reverse review reviewed rheumatoid rhythm rib
ribs rice rich rid ride ridge rights rigid rigidity rigorous ring rings rise risk risks risky river road rob
rode rods role room root roots rotation rough round rounded route routine rubber rule ruled rules run running
runs rupture rural sac sad safe safely safer safest safety salad sale sales saline salivary salt salty sample
samples sampling sandwich sarcoma satisfaction satisfied saturation saturday save saving saw saying says scab
scabs scale scalp scam scan scans scar scared scarring scars scattered scenario scene schedule scheduled
schizophrenia school schools science scientific scientifically scleral sclerosis score scores scratch
scratched screen screened screening screw scrotal search searching seat sec second secondary seconds secret
secretary secreted secretion secretions section sectional secure security seeing seek seeking seemed seems
seen segment segments seizure seizures selected selection selective selectively self sell selling semi send
sending sensation sense sensitive sensitivity sensory sent sentence sentences separate separated separation
sepsis septal september septum sequence serial series serious seriously serotonin serum serve served service
services serving session sessions set sets setting settings seven seventeen seventh seventy several severe
severely severity shaking shaky shallow shape shaped share shared sharing sharp sheath sheet shift shirt shock
shoe shoes shooting shop short shorter shortly shortness shot shots shoulder shoulders show showed shower
showing shown shows sick sickle sickness side sided sides sign signal significance significant significantly
signs silver similar simple simply simultaneously single sinus sinuses sinusitis sir sister sit site sites
sitting situ situation situations six sixteen sixth sixty size sized skeletal skills skin skirt skull sleep
sleeping slight slightly slow slowly small smaller smear smell smelled smelling smoke smoked smoker smokers
smokes smoking smooth snack snake sneeze sneezing snore snoring social society socio socioeconomic sock socket
socks soda sodium sofa soft software sold soldier soles solid solution solutions solve somatic somebody
someone sometimes somewhat son soon sore sores sorry sort sought sound sounds soup sour source sources space
spaces spanish spasm spasms speak speaking special specialist specialized species specific specifically
specificity specimen specimens spectrum speech speed spend spent sperm sphenoid sphincter spider spike spinal
spindle spine spleen split spoke spoken spontaneous spontaneously sports spot spots spouse spread spreading
spring sputum squamous square stabbing stability stabilization stable staff stage stages staging stain stained
staining stains stairs stand standard standardized standards standing start started starting starts state
statement statements states station statistical statistically statistics stature status stay stayed steady
steal stealing steel stem stenosis step steps sterile sternal steroid steroids stick stiff stiffness stimulate
stimulated stimulates stimulating stimulation stimuli stimulus sting stinging stitches stomach stone stones
stool stools stop stopped stopping storage store stored stores story straight strain strand strange strategies
strategy stratified strawberry street strength streptococcal stress stressed strict stridor stroke strong
stronger strongly structural structure structures stuck student students studied studies study studying stuff
stung style sub subcutaneous subgroup subject subjective subjects subsequent subsequently subset substance
substances substantial substrate success successful successfully sucking sudden suddenly suffered suffering
suffers sufficient sugar suggest suggested suggesting suggestion suggestions suggestive suggests suicidal
suicide suitable sulfate sum summary sunday super superficial superior supervision supine supplement
supplements supplied supplies supply support supported supporting supportive supports supposed suppression
sure surface surfaces surgeon surgeries surgery surgical surgically surrounding surveillance survey surveys
survival susceptibility susceptible suspect suspected suspects suspicious sustained suture swab swallow
swallowing sweating sweats sweet swelling swim swollen symmetric sympathetic symptom symptomatic symptoms
syndrome syndromes synthesis synthesized synthetic system systemic systems systolic table tablet tablets
tachycardia tail tailored take taken takes taking talk talked talking tall tamponade target targeted task
tasks taste tasted tax taxes tea teach teacher team tear tears technical technique techniques technology teeth
television tell telling tells temperature temperatures temporal temporary ten tend tendency tender tenderness
tendon tends tensile tension tenth term terminal termination terms terrible tertiary test tested testicular
testing testis testosterone tests text thank thankfully thanks theft theory therapeutic therapies therapist
therapy thereby therefore thermal thick thickening thickness thigh thighs thin think thinking third thirteen
thirty thoracic thorax thorough thoroughly thought thoughts thousand threat threaten threatening three
threshold throat throbbing thromboplastin thrombosis throughout throw thumb thumbs thursday thyroid
thyroidectomy tibia tick till time timely times timing tingling tingly tiny tip tips tired tissue tissues
title tobacco today toe toes told tolerance tomato tomography tomorrow tone tongue tonic tonight took tool
tools tooth toothache top topic topical topics total totally touch touched towards town toxic toxicity toxin
track tract traditional traffic train trained training trait transcription transfer transferase transferred
transfusion transfusions transient translation transmission transmitted transparency transparent transplant
transport transverse trauma traumatic travel traveled traveling treat treated treating treatment treatments
tree tremor tremors trend triad trial trials triangle trick tried tries trigeminal trigger trimester trip
troponin trouble truck true trunk trust truthful try trying tube tuberculosis tubular tubule tubules tuesday
tumor tumors tumour tumours turkey turn turned tutorial twelve twenty twice twin twins twist tympanic type
types typical typically ulcer ulceration ulcers ultimately ultrasound unable unchanged uncle unclear
uncomfortable uncomplicated unconscious undergo undergoes undergoing undergone underlying undermine understand
understanding understood undertaken underwent unethical unfair unfortunately unhappy unilateral unique unit
units university unknown unless unlikely unnecessary unprotected unremarkable unresponsive unsafe unstable
untreated unusual uphold upper upright upset uptake upto urea ureter urethral urgency urgent urinalysis
urinary urination urine use used useful user users uses using usual usually uterine uterus utility vacation
vaccinated vaccination vaccinations vaccine vaccines vagina vaginal vagus valid validated valuable value
values valve variability variable variables variance variant variation varied varies variety various vary
vascular vasodilation vehicle vein veins velocity venous ventilation ventricle ventricular verify versus
vertical vesicles vessel vessels veteran via victim video videos view viewed viewpoint views violate violates
violating violation violence violent viral virulence virus viruses visible vision visit visited visiting
visits visual vital vitals vitamin vitamins vitro vodka voice voltage volume volumes volunteers vomit vomiting
vs vulnerable vulva waist wait waited waiter waiting waitress wake wakes walk walker walking walks wall walls
want wanted wants war ward warfarin warm wash washed waste watch watched watching water watery wave waves way
ways weak weaker weakness weapon weapons wear wearing weather web website websites wednesday week weekday
weekend weekly weeks weighs weight weighted weights welcome welfare wet wheelchair wheeze wheezes wheezing
whereas whiskey white whole wide widely widespread width wife wild willing win window wine wire wires wish
wished wishes withdrawal withhold withholding woman women wonderful wondering word words wore work worked
worker workers working workplace works workup world worn worried worry worse worsened worsening worsens worst
worth wound wounds wrist wrists write writing written wrong www yard year yearly years yellow yesterday yield
young younger yr zero zinc zone zygomatic
"""
FUNCTION_WORDS = frozenset(_GRAMMAR.split())  # those that hold a sentence together
COMMON_WORDS = frozenset(_TEXT.split()) | FUNCTION_WORDS
