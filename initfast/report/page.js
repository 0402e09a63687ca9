
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, facts, parent) => {
    const made = Object.assign(document.createElement(tag), facts);
    parent?.append(made);
    return made;
  };

  // A button that copies each piece of code.
  for (const code of all("pre.code")) {
    const button = make("button", { type: "button", textContent: "Copy the code" });
    code.before(button);
    button.addEventListener("click", async () => {
      let copied = true;
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch { // the page has no right to, as in a frame: by selection
        getSelection().selectAllChildren(code);
        copied = document.execCommand("copy");
      }
      button.textContent = copied ? "Copied" : "Selected: press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy the code"; }, 5000);
    });
  }

  const table = document.getElementById("layers");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const names = headings.map((heading) => heading.textContent);

  // Sorting: numbers by value, empty cells and NaN last, equal rows in the order they had.
  const valueOf = (text) => (text === "inf" ? Infinity : text === "-inf" ? -Infinity : parseFloat(text));
  const sortBy = (column, down) => {
    const isNumber = headings[column].classList.contains("number");
    const keyed = [...body.rows].map((row) => {
      const text = row.cells[column].textContent;
      const value = isNumber ? valueOf(text) : text;
      return { row, value, none: isNumber ? Number.isNaN(value) : text === "" };
    });
    const order = isNumber ? (a, b) => (a === b ? 0 : a < b ? -1 : 1)
      : new Intl.Collator("en", { numeric: true }).compare;
    keyed.sort((a, b) => a.none - b.none
      || (a.none ? 0 : order(a.value, b.value) * (down ? -1 : 1)));
    body.append(...keyed.map((one) => one.row));
  };
  headings.forEach((heading, column) => {
    const button = make("button", { type: "button", textContent: names[column] });
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      sortBy(column, down);
    });
  });

  // The filter: rows that have all the words in their name, op or shape.
  const tools = document.getElementById("tools");
  const label = make("label", { textContent: "Filter by words " }, tools);
  const filter = make("input", { type: "search", id: "filter" }, label);
  const found = make("output", { id: "found" }, tools);
  const texts = rows.map((row) =>
    [...row.cells].slice(1, 4).map((cell) => cell.textContent).join(" ").toLowerCase());
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, i) => { row.hidden = !words.every((word) => texts[i].includes(word)); });
    found.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} layers`;
  };
  filter.addEventListener("input", show);
  show();

  // A link to a row that the filter hides shows all rows again.
  addEventListener("hashchange", () => {
    const row = document.getElementById(location.hash.slice(1));
    if (row?.hidden) {
      filter.value = "";
      show();
      row.scrollIntoView();
    }
  });

  // The modules: unfold and fold all.
  const tree = document.querySelector(".tree");
  const folds = all("details", tree);
  if (folds.length) {
    const both = make("p", {});
    tree.before(both);
    for (const [text, open] of [["Unfold all", true], ["Fold all", false]]) {
      make("button", { type: "button", textContent: text }, both)
        .addEventListener("click", () => folds.forEach((fold) => { fold.open = open; }));
      both.append(" ");
    }
  }

  // Reading the chart: a slider for the keyboard and for fingers, which the mouse moves too.
  const chart = document.querySelector("svg.chart");
  const { left, right, count } = Object.fromEntries(
    Object.entries(chart.dataset).map(([name, text]) => [name, Number(text)]));
  const layers = rows.filter((row) => row.id);
  if (layers.length) {
    const reader = document.getElementById("reader");
    const sliderLabel = make("label", { textContent: "Layer " }, reader);
    const slider = make("input", { type: "range", min: 0, max: layers.length - 1, value: 0 }, sliderLabel);
    const reading = make("output", { textContent: "Move the slider or point at the chart." }, reader);
    const cursor = chart.querySelector(".cursor");
    const read = () => {
      const place = Number(slider.value);
      const x = left + (right - left) * (place + 0.5) / count;
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      const cells = [...layers[place].cells].map((cell, i) => [names[i], cell.textContent]);
      reading.textContent = cells.filter(([, text]) => text)
        .map(([name, text]) => `${name} ${text}`).join(", ");
      slider.setAttribute("aria-valuetext", reading.textContent);
    };
    slider.addEventListener("input", read);
    chart.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
      const place = Math.floor((at.x - left) / (right - left) * count);
      if (place >= 0 && place < layers.length) {
        slider.value = place;
        read();
      }
    });
  }
})();
