"use strict";
(() => {
  const root = document.documentElement, $ = (q, e = document) => e.querySelector(q), all = (q, e = document) => [...e.querySelectorAll(q)];
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const keep = (value) => { try { if (value) localStorage.setItem("onnx-oto-theme", value); return localStorage.getItem("onnx-oto-theme"); } catch { return null; } };
  const theme = $(".theme"), name = () => { theme.textContent = dark() ? "Light colours" : "Dark colours"; };
  const kept = keep(); if (kept) root.dataset.theme = kept;
  theme.hidden = false; name();
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; keep(root.dataset.theme); name(); });

  for (const table of all("table.sortable")) {
    const heads = all("thead th[data-column]", table), body = table.tBodies[0];
    heads.forEach((head) => {
      const button = $("button", head), column = Number(head.dataset.column);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending" && !(head.dataset.kind === "text" && head.getAttribute("aria-sort") !== "ascending");
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => { const cell = row.cells[column]; return cell.dataset.v ?? cell.textContent; };
        const number = head.dataset.kind !== "text", sign = down ? -1 : 1;
        const rows = [...body.rows].map((row, place) => [row, value(row), place]);
        rows.sort(([, a, i], [, b, j]) => {
          if (!number) return sign * a.localeCompare(b, "en", { numeric: true }) || i - j;
          if (a === "" || b === "") return (a === "") - (b === "") || i - j;
          return sign * (Number(a) - Number(b)) || i - j;
        });
        body.append(...rows.map(([row]) => row));
      });
    });
  }

  const data = JSON.parse($("#chart-data")?.textContent ?? "{}");
  const text = (value) => Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
  for (const figure of all(".chart")) {
    const chart = data.charts[figure.dataset.chart], plot = $(".plot", figure), field = $(".field", figure), cursor = $(".cursor", figure), read = $(".read", figure);
    const steps = [...new Set(chart.curves.flatMap((curve) => curve.points.map((point) => point[0])))].sort((a, b) => a - b);
    const near = (points, step) => points.reduce((best, each) => Math.abs(each[0] - step) < Math.abs(best[0] - step) ? each : best);
    const show = (step) => {
      const when = data.per_epoch ? `epoch ${text(Math.round(10 * step / data.per_epoch) / 10)} (step ${text(Math.round(step))})` : `step ${text(Math.round(step))}`;
      const said = `${when}: ` + chart.curves.map((curve) => `${curve.name} ${text(near(curve.points, step)[1])}`).join(", ");
      cursor.hidden = false; cursor.style.left = `${100 * step / chart.end}%`;
      read.textContent = said; plot.setAttribute("aria-valuenow", Math.round(step)); plot.setAttribute("aria-valuetext", said);
      plot.dataset.step = step;
    };
    plot.addEventListener("pointermove", (event) => {
      const box = field.getBoundingClientRect(), step = (event.clientX - box.left) / box.width * chart.end;
      show(near(steps.map((each) => [each]), Math.min(Math.max(step, 0), chart.end))[0]);
    });
    plot.addEventListener("keydown", (event) => {
      const now = steps.indexOf(Number(plot.dataset.step ?? steps[steps.length - 1])), far = Math.max(1, Math.round(steps.length / 40));
      const to = { ArrowLeft: now - far, ArrowDown: now - far, ArrowRight: now + far, ArrowUp: now + far, Home: 0, End: steps.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault(); show(steps[Math.min(Math.max(to, 0), steps.length - 1)]);
    });
  }

  const drawn = $(".drawn"), graph = drawn && $("svg", drawn);
  if (graph) {
    const tiles = all(".tile", graph), told = $(".told"), width = graph.width.baseVal.value, height = graph.height.baseVal.value;
    const tell = (tile) => { told.textContent = tile.getAttribute("aria-label"); };
    tiles.forEach((tile, place) => {
      tile.addEventListener("pointerenter", () => tell(tile));
      tile.addEventListener("focus", () => { tell(tile); tiles.forEach((each) => each.setAttribute("tabindex", each === tile ? "0" : "-1")); });
      tile.addEventListener("click", () => tile.focus());
      tile.addEventListener("keydown", (event) => {
        const to = { ArrowDown: place + 1, ArrowRight: place + 1, ArrowUp: place - 1, ArrowLeft: place - 1, Home: 0, End: tiles.length - 1 }[event.key];
        if (to === undefined || !tiles[to]) return;
        event.preventDefault(); tiles[to].focus();
      });
    });
    let scale = 1;
    const zoom = (to) => { scale = Math.min(Math.max(to, 0.1), 4); graph.setAttribute("width", width * scale); graph.setAttribute("height", height * scale); };
    const fit = () => Math.min(1, (drawn.clientWidth - 2) / width);
    $(".larger").addEventListener("click", () => zoom(scale * 1.25));
    $(".smaller").addEventListener("click", () => zoom(scale / 1.25));
    $(".fit").addEventListener("click", () => zoom(Math.min(fit(), (drawn.clientHeight - 4) / height)));
    $(".tools").hidden = false;
    zoom(Math.max(fit(), 0.6));
    const first = tiles[0].getBoundingClientRect(), frame = drawn.getBoundingClientRect();
    drawn.scrollLeft = first.left + first.width / 2 - frame.left - frame.width / 2;
  }
})();
