"""Chat templates in the ways of well-known families, in words of our own: what they do differs, not how they
look.
"""

PLAIN = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Reasoning of answers before the last question is left out; the last answer always has a block of it, if an
# empty one.
THINKING = """\
{%- set ns = namespace(last=-1) -%}
{%- for m in messages %}{% if m.role == 'user' and not (m.content.startswith('<result>') and
 m.content.endswith('</result>')) %}{% set ns.last = loop.index0 %}{% endif %}{% endfor -%}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
  {%- set reasoning = '' -%}{%- set said = m.content -%}
  {%- if m.reasoning_content is string -%}{%- set reasoning = m.reasoning_content -%}
  {%- elif '</think>' in said -%}
    {%- set reasoning = said.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
    {%- set said = said.split('</think>')[-1].lstrip('\\n') -%}
  {%- endif -%}
  {%- if loop.index0 > ns.last and (loop.last or reasoning) -%}
    {{- '<|start|>assistant\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + said.lstrip('\\n')
 -}}
  {%- else -%}{{- '<|start|>assistant\\n' + said -}}{%- endif -%}
  {{- '<|end|>\\n' -}}
{%- else -%}{{- '<|start|>' + m.role + '\\n' + m.content + '<|end|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant\\n' -}}{%- endif -%}"""

# No reasoning is ever written, and the prompt opens some; the system stands bare at the front.
REASONER = """\
{%- set ns = namespace(system='') -%}
{%- for m in messages %}{% if m.role == 'system' %}{% set ns.system = m.content %}{% endif %}{% endfor -%}
{{- '<s>' + ns.system -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{- '<｜User｜>' + m.content -}}
{%- elif m.role == 'assistant' -%}
{%- set said = m.content -%}{%- if '</think>' in said -%}{%- set said = said.split('</think>')[-1] -%}{%-
 endif -%}
{{- '<｜Assistant｜>' + said + '<｜end｜>' -}}
{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<｜Assistant｜><think>\\n' -}}{%- endif -%}"""

# No system turn, turns in strict order, white space trimmed.
STRICT = """\
{{- '<s>' -}}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif -%}
{%- for m in messages -%}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{
 raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif -%}
{%- set role = 'model' if m['role'] == 'assistant' else m['role'] -%}
{{- '<turn>' + role + '\\n' + (m['content'] | trim) + '<turn_end>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<turn>model\\n' }}{% endif -%}"""

# The day, always a system header, white space trimmed.
DATED = """\
{{- '<s>' -}}
{%- if messages[0]['role'] == 'system' %}{% set told = messages[0]['content'] | trim %}{% set rest =
 messages[1:] %}{% else %}{% set told = '' %}{% set rest = messages %}{% endif -%}
{{- '<|head|>system<|/head|>\\n\\nKnowledge ends: December 2023\\nToday: ' + strftime_now('%d %b %Y %H:%M:%S')
 + '\\n\\n' + told + '<|eot|>' -}}
{%- for m in rest %}{{ '<|head|>' + m['role'] + '<|/head|>\\n\\n' + m['content'] | trim + '<|eot|>' }}{%
 endfor -%}
{%- if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\\n\\n' }}{% endif -%}"""

# Questions in brackets; the system's text goes before the last question, where the dialogue ends with one.
BRACKETS = """\
{%- if messages[0]['role'] == 'system' %}{% set told = messages[0]['content'] %}{% set rest = messages[1:]
 %}{% else %}{% set rest = messages %}{% endif -%}
{{- '<s>' -}}
{%- for m in rest -%}
{%- if m['role'] == 'user' -%}
{%- if loop.last and told is defined %}{{ '[INST] ' + told + '\\n\\n' + m['content'] + '[/INST]' }}{% else
 %}{{ '[INST] ' + m['content'] + '[/INST]' }}{% endif -%}
{%- elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + '</s>' }}
{%- else %}{{ raise_exception('Only user and assistant roles are supported') }}{% endif -%}
{%- endfor -%}"""

# Tools before everything else, calls of them in an assistant's turn.
TOOLS = """\
{%- if tools %}{{ '<|tools|>' + (tools | tojson) + '<|end|>' }}{% endif -%}
{%- for m in messages -%}
{{- '<|' + m.role + '|>' -}}
{%- if m.tool_calls %}{% for call in m.tool_calls %}{{ '<call>' + (call.function | tojson) + '</call>' }}{%
 endfor %}{% else %}{{ m.content }}{% endif -%}
{{- '<|end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif -%}"""

# What the model generates is said: the answer and the end of its turn, and not the mark that ends the
# dialogue.
MARKED = """\
{%- for m in messages -%}
{%- if m['role'] == 'assistant' -%}
{{- '<|assistant|>\\n' -}}{%- generation -%}{{- m['content'] + '<|end|>\\n' -}}{%- endgeneration -%}
{%- else -%}{{- '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ '<|endoftext|>' }}{% endif -%}"""

# One more mark where the dialogue ends.
ENDED = """\
{%- for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ '<|endoftext|>' }}{% endif -%}"""

FAMILIES: dict[str, str | dict[str, str]] = {
    "plain": PLAIN,
    "thinking": THINKING,
    "reasoner": REASONER,
    "strict": STRICT,
    "dated": DATED,
    "brackets": BRACKETS,
    "tools": TOOLS,
    "marked": MARKED,
    "ended": ENDED,
    "named": {"tool_use": TOOLS, "default": PLAIN},
}
ENDS = {"plain": "<|end|>", "thinking": "<|end|>", "reasoner": "<｜end｜>", "strict": "<turn_end>",
    "dated": "<|eot|>",
        "brackets": "</s>", "tools": "<|end|>", "marked": "<|end|>", "ended": "<|end|>",
        "named": "<|end|>"}  # fmt: skip
STRIPS = ("thinking", "reasoner")  # reasoning of answers that are not the last
TRIMS = ("strict", "dated")  # white space
