(() => {
  const at = (id) => document.getElementById(id);
  const form = at("choices"), queue = at("queue"), stage = at("stage");
  const IMAGES = /\.(a?png|jpe?g?|jfif|webp|tiff?|bmp|gif|avif|jp2|j2k|jpx|p[pgbn]m|tga|hei[cf]|hif|jxl)$/i;
  const QUICK = 400, SLOW = 4000, PATIENCE = 180;
  const slider = comparisonSlider(stage, () => fineLater());
  const items = new Map(), files = new Map(), previews = new Map(), waiting = [];
  let known = [], formats = {}, largestSide = 2048, largestUpload = Infinity;
  let selected = null, shownPicture = null, sending = 0, sent = 0, timer = 0, fineTimer = 0;

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  const say = (text) => { at("said").textContent = text; };
  const sizeText = (size) => size.join("×");
  const current = () => known.find((photo) => photo.id === selected);

  function bytesText(bytes) {
    return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
  }

  function timeText(seconds) {
    return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
  }

  function progressText(photo) {
    const percent = `${Math.floor(100 * photo.progress)} %`;
    if (photo.progress < 0.02) return `first tile, ${timeText(photo.seconds)}`;
    if (photo.progress >= 1) return "writing";
    return `${percent}, ${timeText(photo.seconds / photo.progress - photo.seconds)} left`;
  }

  function fail(text) {
    const line = element("li", "", "");
    const away = element("button", "icon", "×");
    away.type = "button";
    away.setAttribute("aria-label", "Dismiss");
    away.onclick = () => line.remove();
    line.append(element("span", "", text), away);
    at("errors").append(line);
    say(text);
  }

  async function ask(path, options) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      throw new Error("the page's program does not answer; is it still running?");
    }
    if (answer.ok) return answer.status === 204 ? null : answer.json();
    const text = await answer.text();
    let line = text;
    try { line = JSON.parse(text).error; } catch { /* plain text */ }
    throw new Error(line || `error ${answer.status}`);
  }

  // Choices ---------------------------------------------------------------------------------------

  function choices() {
    const given = (name) => form.elements[name].value, query = new URLSearchParams();
    const mode = given("mode"), format = formats[given("format")];
    query.set("model", given("model"));
    if (mode === "fit") query.set("size", `${given("width")}x${given("height")}`);
    else query.set("scale", mode === "factor" ? given("factor") : mode);
    if (given("format")) query.set("format", given("format"));
    const lossless = format && format.lossless && form.elements.lossless.checked;
    if (lossless) query.set("lossless", "1");
    else if (format && format.lossy) query.set("quality", given("quality"));
    query.set("colour", given("colour"));
    if (form.elements.frames.checked) query.set("frames", "all");
    return query;
  }

  function showFields() {
    const mode = form.elements.mode.value, format = formats[form.elements.format.value] || {};
    const wanted = {
      factor: mode === "factor", fit: mode === "fit", lossless: format.lossless,
      lossy: format.lossy && !(format.lossless && form.elements.lossless.checked),
    };
    for (const part of form.querySelectorAll("[data-for]")) {
      part.hidden = !wanted[part.dataset.for];
      for (const field of part.querySelectorAll("input")) field.disabled = part.hidden;
    }
    form.querySelector("output").textContent = form.elements.quality.value;
  }
  form.addEventListener("input", showFields);
  form.addEventListener("submit", (event) => event.preventDefault());

  // Photographs come ------------------------------------------------------------------------------

  function take(given) {
    if (!given.length || !form.reportValidity()) return;
    waiting.push(...given.map((one) => ({ ...one, query: choices() })));
    sending += given.length;
    if (sending === given.length) send();
  }

  async function send() {
    while (waiting.length) {
      const { file, name, query } = waiting.shift();
      sent += 1;
      at("sending").hidden = sending < 2;
      at("sending").textContent = `Taking in ${sent} of ${sending}`;
      query.set("name", name);
      try {
        if (file.size > largestUpload) throw new Error(`${name}: ${bytesText(file.size)}, at most ${bytesText(largestUpload)} are taken`);
        const photo = await ask(`/api/photos?${query}`, { method: "POST", body: file });
        keep(photo.id, file);
        known.push(photo);
        if (!current() || current().status === "failed") selected = photo.id;
        render();
      } catch (error) {
        fail(error.message);
      }
    }
    sending = sent = 0;
    at("sending").hidden = true;
    poll();
  }

  // The browser's own picture of a photograph, until there is one of the program's.
  function keep(id, file) {
    files.set(id, file);
    previews.set(id, URL.createObjectURL(file));
  }

  const named = (file) => ({ file, name: file.webkitRelativePath || file.name });
  for (const id of ["files", "folder"]) {
    at(id).addEventListener("change", () => {
      const given = [...at(id).files].map(named);
      const kept = id === "folder" ? given.filter(({ name }) => IMAGES.test(name)) : given;
      if (id === "folder" && !kept.length) fail("the folder holds no images");
      take(kept);
      at(id).value = "";
    });
  }
  for (const button of document.querySelectorAll("[data-choose]")) {
    button.onclick = () => at(button.dataset.choose).click();
  }

  async function entryFiles(entry, folder) {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      const name = folder + file.name;
      return folder && !IMAGES.test(name) ? [] : [{ file, name }];
    }
    const reader = entry.createReader(), found = [];
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return found;
      for (const inner of some) found.push(...await entryFiles(inner, `${folder}${entry.name}/`));
    }
  }

  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer ? event.dataTransfer.types : [])].includes("Files");
  const veil = (by) => { depth = Math.max(0, depth + by); at("veil").hidden = depth === 0; };
  addEventListener("dragenter", (event) => { if (hasFiles(event)) { veil(1); event.preventDefault(); } });
  addEventListener("dragleave", (event) => { if (hasFiles(event)) veil(-1); });
  addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    veil(-depth);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry());
    const plain = [...event.dataTransfer.files].map(named);
    const found = [];
    try {
      for (const entry of entries.filter(Boolean)) found.push(...await entryFiles(entry, ""));
    } catch (error) {
      fail(`a folder cannot be read (${error.message || error.name})`);
    }
    take(entries.some(Boolean) ? found : plain);
  });
  addEventListener("paste", (event) => {
    take([...event.clipboardData.files].map((file) => ({ file, name: file.name || "pasted.png" })));
  });

  // What the program says -------------------------------------------------------------------------

  async function poll() {
    clearTimeout(timer);
    let state;
    try {
      state = await ask("/api/state");
    } catch (error) {
      say(error.message);
      document.title = "tvqrap: no answer";
      timer = setTimeout(poll, SLOW);
      return;
    }
    formats = state.formats;
    largestSide = state.largest_side;
    largestUpload = state.largest_upload;
    fillChoices(state);
    for (const photo of state.photos) {
      const before = known.find(({ id }) => id === photo.id);
      if (before && before.status !== photo.status && ["done", "failed"].includes(photo.status)) {
        say(photo.status === "done" ? `${photo.name} is upscaled` : photo.message);
      }
    }
    known = state.photos;
    if (!current()) selected = known.length ? known[0].id : null;
    render();
    const active = known.some(({ status }) => status === "waiting" || status === "running");
    timer = setTimeout(poll, active ? QUICK : SLOW);
  }

  function fillChoices(state) {
    const model = form.elements.model, format = form.elements.format;
    if (!model.options.length) {
      model.append(...state.models.map((name, index) => new Option(name, index)));
      format.append(...Object.keys(state.formats).map((name) => new Option(name.toUpperCase(), name)));
      showFields();
    }
  }

  function render() {
    const done = known.filter(({ status }) => status === "done").length;
    document.body.classList.toggle("busy", known.length > 0);
    at("all").hidden = done < 2;
    at("more").hidden = at("none").hidden = !known.length;
    at("none").hidden = known.length > 0;
    document.title = known.length ? `${done} of ${known.length} upscaled` : "tvqrap: upscale photographs";
    for (const [id, item] of items) {
      if (!known.some((photo) => photo.id === id)) {
        item.line.remove();
        items.delete(id);
        if (previews.has(id)) URL.revokeObjectURL(previews.get(id));
        previews.delete(id);
        files.delete(id);
      }
    }
    known.forEach(renderItem);
    renderViewer();
  }

  function makeItem(photo) {
    const line = element("li"), button = element("button", "photo"), text = element("span");
    const thumb = element("img"), name = element("b", "", photo.name), about = element("small");
    const bar = element("span", "bar"), fill = element("i"), away = element("button", "icon", "×");
    thumb.alt = "";
    thumb.onerror = () => { thumb.style.visibility = "hidden"; };
    if (previews.has(photo.id)) thumb.src = previews.get(photo.id);
    bar.style.display = "block";
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-label", `Progress of ${photo.name}`);
    bar.append(fill);
    text.append(name, about, bar);
    button.type = away.type = "button";
    button.title = photo.name;
    button.append(thumb, text);
    button.onclick = () => choose(photo.id);
    away.onclick = () => remove(photo.id);
    line.append(button, away);
    queue.append(line);
    return { line, button, thumb, about, bar, fill, away };
  }

  function renderItem(photo) {
    if (!items.has(photo.id)) items.set(photo.id, makeItem(photo));
    const { line, button, thumb, about, bar, fill, away } = items.get(photo.id);
    const ended = photo.status === "done" || photo.status === "failed";
    line.className = photo.status;
    button.setAttribute("aria-current", String(photo.id === selected));
    away.setAttribute("aria-label", `${ended ? "Remove" : "Cancel"} ${photo.name}`);
    away.title = ended ? "Remove" : "Cancel";
    if (!thumb.src && photo.compared) thumb.src = `/api/photos/${photo.id}/before.png`;
    about.textContent = {
      waiting: `waiting, ${sizeText(photo.to)}`,
      running: progressText(photo),
      done: `${sizeText(photo.to)}, ${bytesText(photo.bytes || 0)}`,
      failed: photo.message,
    }[photo.status];
    bar.hidden = photo.status !== "running";
    bar.style.display = bar.hidden ? "none" : "block";
    bar.classList.toggle("unknown", photo.progress === 0 || photo.progress >= 1);
    fill.style.width = `${100 * photo.progress}%`;
    if (photo.progress > 0) bar.setAttribute("aria-valuenow", String(Math.round(100 * photo.progress)));
  }

  function renderViewer() {
    const photo = current();
    at("empty").hidden = Boolean(photo);
    at("shown").hidden = !photo;
    if (!photo) return;
    const done = photo.status === "done", pending = at("pending"), preview = previews.get(photo.id);
    stage.hidden = !(done && photo.compared);
    pending.hidden = !stage.hidden;
    pending.classList.toggle("failed", photo.status === "failed" || done);
    const [head, text] = pending.querySelectorAll("b, span");
    head.textContent = { waiting: "Waiting", failed: "Not upscaled", done: "Upscaled" }[photo.status]
      || (photo.progress > 0 && photo.progress < 1 ? `${Math.floor(100 * photo.progress)} %` : "Upscaling");
    text.textContent = { failed: photo.message, running: progressText(photo), waiting: "", done: "Too large to compare here" }[photo.status];
    const image = pending.querySelector("img");
    if (preview && image.getAttribute("src") !== preview) image.src = preview;
    if (!preview) image.removeAttribute("src");
    const [name, about] = at("title").children;
    name.textContent = photo.name;
    about.textContent = `${sizeText(photo.from)} → ${sizeText(photo.to)}`
      + (photo.images > 1 ? `, ${photo.images} frames or pages` : "")
      + `, model ${photo.model}` + (done ? `, ${timeText(photo.seconds)}` : "");
    at("zoom").hidden = stage.hidden;
    const download = at("download");
    download.setAttribute("aria-disabled", String(!done));
    if (done) download.href = `/api/photos/${photo.id}/output`;
    else download.removeAttribute("href");
    const notes = photo.notes.join("\n");
    if (at("notes").dataset.text !== notes) {
      at("notes").dataset.text = notes;
      at("notes").replaceChildren(...photo.notes.map((note) => element("li", "", note)));
    }
    if (!stage.hidden && shownPicture !== photo.id) {
      shownPicture = photo.id;
      const uri = (side) => `/api/photos/${photo.id}/${side}.png`;
      slider.show({ uri: uri("before"), name: "bicubic" }, { uri: uri("after"), name: photo.model }, ...photo.to);
      slider.reset();
    }
  }

  // Where a large output is zoomed, the visible part comes in full resolution.
  function fineLater() {
    clearTimeout(fineTimer);
    fineTimer = setTimeout(fine, PATIENCE);
  }

  async function fine() {
    const photo = current(), { view } = slider;
    if (!photo || shownPicture !== photo.id || stage.hidden || Math.max(...photo.to) <= largestSide) return;
    const scale = Math.min(stage.clientWidth / view.width, stage.clientHeight / view.height) * view.zoom;
    const [wide, high] = [stage.clientWidth / scale, stage.clientHeight / scale].map(Math.ceil);
    const part = [view.x * view.width - wide / 2, view.y * view.height - high / 2].map(Math.floor);
    const left = Math.max(0, part[0]), top = Math.max(0, part[1]);
    const right = Math.min(view.width, part[0] + wide + 2), bottom = Math.min(view.height, part[1] + high + 2);
    if (right - left > largestSide || bottom - top > largestSide) return;
    const uris = ["before", "after"].map((side) => `/api/photos/${photo.id}/${side}.png?part=${left},${top},${right},${bottom}`);
    if (fine.latest === uris[1]) return;
    fine.latest = uris[1];
    const loaded = uris.map((uri) => Object.assign(new Image(), { src: uri }).decode());
    try { await Promise.all(loaded); } catch { return; }
    if (fine.latest !== uris[1] || shownPicture !== photo.id) return;
    slider.detail({ left, top, width: right - left, height: bottom - top }, ...uris);
  }

  // What the user does ----------------------------------------------------------------------------

  function choose(id) {
    selected = id;
    render();
  }

  async function remove(id) {
    const index = known.findIndex((photo) => photo.id === id);
    try {
      await ask(`/api/photos/${id}`, { method: "DELETE" });
    } catch (error) {
      fail(error.message);
    }
    known = known.filter((photo) => photo.id !== id);
    if (selected === id) selected = known.length ? known[Math.min(index, known.length - 1)].id : null;
    render();
    // The keyboard's place is not lost with the line.
    const next = items.get(selected);
    (next ? next.button : document.querySelector("#empty .button")).focus();
    poll();
  }

  at("again").onclick = async () => {
    if (!current() || !form.reportValidity()) return;
    const file = files.get(selected);
    try {
      const photo = await ask(`/api/photos/${selected}/again?${choices()}`, { method: "POST" });
      if (file) keep(photo.id, file);
      known.push(photo);
      choose(photo.id);
    } catch (error) {
      fail(error.message);
    }
    poll();
  };

  for (const button of document.querySelectorAll("[data-zoom]")) {
    const factor = Number(button.dataset.zoom);
    button.onclick = () => (factor ? slider.zoomAt(factor) : slider.reset());
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || stage.hidden || at("shown").hidden) return;
    const active = document.activeElement;
    if (active && active.matches("input, select, textarea")) return;
    const here = active === slider.divider, step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (here && step) {
      const index = known.findIndex(({ id }) => id === selected);
      choose(known[(index + step + known.length) % known.length].id);
      slider.divider.focus();
    } else if (!slider.key(event, here)) {
      return;
    }
    event.preventDefault();
  });

  poll();
})();
