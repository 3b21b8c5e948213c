// The search of a page that is opened as a file: browsers start no worker from there, so that the theme runs the
// worker's script in a hidden frame. It asks for the class by this name.
window.IFrameWorker = class extends EventTarget {
  constructor(url) {
    super()
    this.frame = document.createElement("iframe")
    this.frame.hidden = true
    document.body.append(this.frame)
    const inner = this.frame.contentWindow
    const load = source => new Promise((loaded, failed) => {
      const script = inner.document.createElement("script")
      Object.assign(script, { src: new URL(source, document.baseURI), onload: loaded, onerror: failed })
      inner.document.body.append(script)
    })
    inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
    inner.importScripts = (...sources) =>
      sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve())
    this.ready = load(url)
  }

  postMessage(data) {
    this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
  }

  terminate() {
    this.frame.remove()
  }
}
if (location.protocol === "file:") window.Worker = window.IFrameWorker
