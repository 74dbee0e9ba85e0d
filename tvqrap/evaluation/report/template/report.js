(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.images.length) return;
  const at = (id) => document.getElementById(id);
  const state = { metric: null, image: 0, left: 0, right: 0 };
  // The panels show the part that the slider shows.
  const slider = comparisonSlider(at("stage"), drawPanels);

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const current = () => data.images[state.image];
  const metrics = new Map(data.metrics.map((metric) => [metric.name, metric]));
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  function visible() {
    const all = data.images.map((_, index) => index);
    return state.metric === null
      ? all
      : all.filter((index) => data.images[index].reasons.some(([name]) => name === state.metric));
  }

  function why(image) {
    const reasons = image.reasons.filter(([name]) => state.metric === null || name === state.metric);
    return reasons.map(([name, place]) => `${place} ${metrics.get(name).title}`);
  }

  function chips() {
    const named = data.metrics.filter(({ name }) =>
      data.images.some((image) => image.reasons.some(([reason]) => reason === name)));
    const choices = [[null, "All cases"], ...named.map(({ name, title }) => [name, title])];
    at("metrics").replaceChildren(...choices.map(([name, title]) => {
      const chip = element("button", "", title);
      chip.type = "button";
      chip.setAttribute("aria-pressed", String(state.metric === name));
      chip.onclick = () => {
        state.metric = name;
        if (!visible().includes(state.image)) state.image = visible()[0];
        chips();
        choose(state.image);
      };
      return chip;
    }));
  }

  function strip() {
    const focus = focusCell(current());
    at("strip").replaceChildren(...visible().map((index) => {
      const image = data.images[index];
      const button = element("button");
      const thumb = element("img");
      thumb.src = image.cells[Math.min(focus, image.cells.length - 1)].uri;
      thumb.alt = "";
      button.type = "button";
      button.title = `${image.name}\n${why(image).join(", ")}`;
      button.append(thumb, element("span", "", why(image)[0] || image.name));
      button.setAttribute("aria-pressed", String(index === state.image));
      button.onclick = () => choose(index);
      return button;
    }));
    const pressed = at("strip").querySelector('[aria-pressed="true"]');
    if (pressed) at("strip").scrollLeft = pressed.offsetLeft - at("strip").offsetLeft - 120;
  }

  // The last picture before HR, which is that of the last model.
  function focusCell(image) {
    const last = image.cells.length - 1;
    return image.cells[last].name === "HR" && last > 0 ? last - 1 : last;
  }

  function choose(index) {
    state.image = index;
    const image = current(), last = image.cells.length - 1;
    state.left = clamp(state.left, 0, last);
    state.right = clamp(state.right, 0, last);
    strip();
    panels();
    const part = image.box ? `, ${image.size.join("×")} of it` : `, ${image.size.join("×")}`;
    const reasons = why(image);
    at("caption").textContent = image.name + part + (reasons.length ? ` · ${reasons.join(" · ")}` : "");
    pictures();
  }

  function panels() {
    const image = current();
    const metric = metrics.get(state.metric) || data.metrics[0];
    const values = image.cells.map((cell) => metric && cell.scores[metric.name]);
    const known = values.filter((value) => value !== undefined);
    const top = known.length > 1 && (metric.better === "higher" ? Math.max : Math.min)(...known);
    at("shown").textContent = known.length
      ? `${metric.title} ${metric.better === "higher" ? "↑" : "↓"} of this image`
      : "";
    at("panels").replaceChildren(...image.cells.map((cell, index) => {
      const panel = element("button", "panel");
      const frame = element("div", "window");
      const picture = element("img");
      picture.src = cell.uri;
      picture.alt = "";
      frame.style.aspectRatio = `${image.size[0]} / ${image.size[1]}`;
      frame.append(picture);
      const line = element("div");
      line.append(element("span", "name", `${index + 1} ${cell.name}`));
      if (values[index] !== undefined) {
        const best = values[index] === top ? "score top" : "score";
        line.append(element("span", best, values[index].toFixed(metric.digits)));
      }
      panel.type = "button";
      panel.title = `${cell.name}\nclick: right side; Shift and click: left side`;
      panel.append(frame, line);
      panel.onclick = (event) => {
        state[event.shiftKey ? "left" : "right"] = index;
        pictures();
      };
      return panel;
    }));
  }

  function pictures() {
    const image = current();
    [...at("panels").children].forEach((panel, index) => {
      panel.classList.toggle("on-left", index === state.left);
      panel.classList.toggle("on-right", index === state.right);
    });
    const [left, right] = [state.left, state.right].map((index) => {
      const { uri, name } = image.cells[index];
      return { uri, name, sharp: name === "LR" };
    });
    slider.show(left, right, ...image.size);
  }

  function drawPanels() {
    [...at("panels").children].forEach((panel, index) => {
      const frame = panel.firstElementChild;
      slider.place(frame.firstElementChild, frame, current().cells[index].name === "LR");
    });
  }

  function step(by) {
    const shown = visible();
    choose(shown[(shown.indexOf(state.image) + by + shown.length) % shown.length]);
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
    // Outside the viewer the arrows scroll the page.
    const here = at("pictures").parentElement.contains(document.activeElement);
    if (digit && Number(digit[1]) <= current().cells.length) {
      state[event.shiftKey ? "left" : "right"] = Number(digit[1]) - 1;
      pictures();
    } else if (here && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      step(event.key === "ArrowUp" ? -1 : 1);
    } else if (!slider.key(event, here)) {
      return;
    }
    event.preventDefault();
  });

  const image = current();
  state.right = focusCell(image);
  const bicubic = image.cells.findIndex((cell) => cell.name.includes("bicubic"));
  state.left = bicubic >= 0 ? bicubic : 0;
  chips();
  choose(0);
})();
