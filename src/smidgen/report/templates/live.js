let state = null, drawn = "", failures = 0, over = false;

function duration(seconds) {
  if (!known(seconds)) return "-";
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
}

const SO_FAR = "training so far";
const SPLITS = [["train", "training", "c0"], ["validation", "validation", "c1 d1"], ["test", "test", "c2 d2"]];

function curvesOf(run, metric, factor, column) {
  const curves = SPLITS.map(([kind, name, look]) => ({
    name, look,
    points: run.epochs.filter((e) => e[kind] && known(e[kind][metric]))
      .map((e) => [e.epoch, factor * e[kind][metric]]),
  }));
  // Until two epochs have ended, the thin line is all there is to see.
  return [{ name: run.epochs.length > 1 ? "" : SO_FAR, look: "c0 faint", ...stepCurve(run, factor, column) }, ...curves];
}

/* Averages within each epoch so far: they begin anew with each epoch. */
function stepCurve(run, factor, column) {
  const points = run.steps.filter((s) => known(s[column])).map((s) => [s[0], factor * s[column]]);
  return { points, breaks: (n) => Math.ceil(points[n][0]) !== Math.ceil(points[n - 1][0]) };
}

function accuracyChart(id, curves, numEpochs, target) {
  const values = curves.flatMap((curve) => curve.points.map((p) => p[1]));
  const goal = known(target) ? 100 * target : 100;
  // The first epochs of long runs are cut off: they would flatten the rest.
  const begins = curves.filter((curve) => curve.name && curve.points.length)
    .map(({ points }) => points[Math.min(points.length - 1, Math.floor(points.length / 6))][1]);
  const low = Math.max(0, Math.floor(Math.min(goal - 1, ...(begins.length ? begins : values), 99)));
  chart(id, curves, numEpochs, {
    name: "Accuracy in percent", goal: known(target) ? goal : null, low, high: 100,
    show: (v) => v.toFixed(2) + " %",
  });
}

function drawRun(run) {
  accuracyChart("accuracy", curvesOf(run, "accuracy", 100, 2), run.num_epochs, run.target);
  const losses = curvesOf(run, "loss", 1, 1);
  for (const curve of losses) curve.points = curve.points.filter((p) => p[1] > 0);
  const positive = losses.flatMap((c) => c.points.map((p) => p[1]));
  chart("loss", losses, run.num_epochs, {
    name: "Loss", log: true, show: (v) => v.toFixed(4),
    low: positive.length ? Math.min(...positive) / 1.2 : 0.01,
    high: positive.length ? Math.max(...positive) * 1.2 : 2.5,
  });
  const rates = run.epochs.filter((e) => known(e.lr)).map((e) => [e.epoch, e.lr]);
  chart("lr", [{ look: "c0", name: "at the end of the epoch", points: rates }], run.num_epochs, {
    name: "Learning rate", low: 0, high: (Math.max(...rates.map((p) => p[1]), 0) || 0.1) * 1.05,
    show: (v) => String(+v.toPrecision(3)),
  });
  at("rows").replaceChildren(...run.epochs.map((e) => {
    const row = document.createElement("tr");
    const scores = (split) => e[split] ? [fixed(e[split].loss, 4), percent(e[split].accuracy)] : ["-", "-"];
    for (const cell of [e.epoch, ...scores("train"), ...scores("validation"), fixed(e.lr, 5), fixed(e.seconds, 1)])
      add(row, "td", cell);
    return row;
  }));
}

const WORDS = { waiting: "Waiting for the run.", interrupted: "The run was interrupted; smidgen train --resume continues it.",
  failed: "The run failed.", finished: "The run has finished.", unreadable: "The run's files cannot be read." };

function verdict(run) {
  if (run.passed === null) return ["", run.status === "finished" ? "no limits" : "-"];
  return run.passed ? ["pass", "pass"] : ["fail", "FAIL"];
}

/* Show the entries whose value is known: [name, value, class of the tile]. */
function showTiles(id, entries) {
  at(id).replaceChildren();
  for (const [name, value, className] of entries.filter(([, value]) => known(value))) {
    const tile = add(at(id), "div", undefined, className);
    add(tile, "dt", name);
    add(tile, "dd", value);
  }
}

function showRun(run) {
  const { epochs, num_epochs: count, progress } = run, [className] = verdict(run);
  const active = run.status === "running";
  const done = epochs.length, inside = active && progress && progress.epoch > done;
  at("name").textContent = run.name || "A run";
  at("bar").max = count || 1;
  at("bar").value = done + (inside ? progress.batch / progress.num_batches : 0);
  at("bar").hidden = !active;
  const doing = run.doing && !over ? ` Now: ${run.doing}.` : "";
  const status = (active && !over ? `${done} of ${count ?? "?"} epochs done.` : WORDS[run.status])
    + doing + (over ? " This page is no longer updated." : "");
  if (at("status").textContent !== status) at("status").textContent = status;
  const latest = done ? epochs[done - 1] : null;
  showTiles("facts", [
    ["test accuracy", known(run.accuracy) ? percent(run.accuracy) : null, className],
    ["target", known(run.target) ? percent(run.target) : null],
    ["training accuracy", inside ? percent(progress.accuracy) : latest ? percent(latest.train.accuracy) : null],
    ["validation accuracy", latest?.validation ? percent(latest.validation.accuracy) : null],
    ["parameters", known(run.num_params) ? rounded(run.num_params) : null],
    ["epoch", active ? `${Math.min(done + 1, count)} of ${count}` : null],
    ["images/s", inside ? rounded(progress.images_per_second ?? 0) : null],
    ["time left", active && known(run.seconds_left) ? duration(run.seconds_left) : null],
  ]);
  at("verdict").hidden = !run.result;
  at("verdict").className = `verdict ${className || (run.status === "finished" ? "" : "fail")}`;
  at("verdict").firstElementChild.textContent = run.result.replace(/^./, (c) => c.toUpperCase());
  const report = at("verdict").lastElementChild;
  report.replaceChildren();
  if (run.status === "finished" && run.report) report.append(link(run, run.report_url ? "Report" : run.report));
  at("limits").hidden = !run.limits.length;
  at("limits").querySelector("tbody").replaceChildren(...run.limits.map((cells) => {
    const row = document.createElement("tr");
    for (const cell of cells) add(row, "td", cell, { pass: "pass", FAIL: "fail" }[cell]);
    return row;
  }));
}

/* Pages from a server may not open files, so a report that is not served is only named. */
function link(run, text) {
  const element = document.createElement(run.report_url ? "a" : "code");
  if (run.report_url) element.href = run.report_url;
  element.textContent = text;
  return element;
}

function chosen() {
  const key = decodeURIComponent(location.hash.slice(1));
  return state.runs.find((run) => run.key && run.key === key)
    ?? state.runs.find((run) => run.status === "running") ?? state.runs[0] ?? null;
}

function showOverview(selected) {
  const { runs, title, note } = state;
  at("overview").hidden = !title;
  if (!title) return;
  at("title").textContent = title;
  at("note").textContent = runs.length ? note : "No runs yet.";
  const judged = runs.filter((run) => run.passed !== null), passed = judged.filter((run) => run.passed);
  const accuracies = runs.map((run) => run.accuracy).filter(known);
  showTiles("counts", [
    ["running", runs.filter((run) => run.status === "running").length],
    ["finished", runs.filter((run) => run.status === "finished").length],
    ["inside their budget", judged.length ? `${passed.length} of ${judged.length}` : null,
      passed.length === judged.length ? "pass" : "fail"],
    ["best test accuracy", accuracies.length ? percent(Math.max(...accuracies)) : null],
  ]);
  at("runs").replaceChildren(...runs.map((run) => {
    const row = document.createElement("tr"), latest = run.epochs[run.epochs.length - 1];
    row.setAttribute("aria-selected", run === selected);
    add(add(row, "td"), "a", run.name).href = "#" + run.key;
    const cells = [[run.status, "text"], [`${run.epochs.length}/${run.num_epochs ?? "?"}`],
      [run.status === "running" ? duration(run.seconds_left) : ""], [percent(latest?.train.accuracy)],
      [percent(latest?.validation?.accuracy)], [percent(run.accuracy)],
      [known(run.num_params) ? rounded(run.num_params) : "-"], [verdict(run)[1], `text ${verdict(run)[0]}`]];
    for (const [text, className] of cells) add(row, "td", text, className);
    const report = add(row, "td", undefined, "text");
    if (run.report_url) report.append(link(run, "report"));
    return row;
  }));
  drawAll(runs.filter((run) => run.epochs.length || run.steps.length).slice(0, MOST_CURVES), selected);
}

/* One kind of accuracy for all: validation if every run has it. */
function drawAll(runs, selected) {
  const kind = runs.every((run) => run.epochs.length && run.epochs.every((e) => e.validation)) ? "validation" : "train";
  const curves = runs.map((run, n) => ({
    name: run.name, look: `c${n % 6}` + (n < 6 ? "" : " d1") + (run === selected ? " chosen" : ""),
    ...(kind === "train" && run.epochs.length < 2 ? stepCurve(run, 100, 2)
      : { points: run.epochs.filter((e) => known(e[kind].accuracy)).map((e) => [e.epoch, 100 * e[kind].accuracy]) }),
  }));
  const newest = state.runs.length > runs.length ? ` of the newest ${runs.length}` : "";
  at("all").querySelector("h3").textContent = `${kind === "train" ? "Training" : "Validation"} accuracy${newest}, %`;
  at("all").hidden = runs.length < 2;
  const targets = new Set(runs.map((run) => run.target));
  if (runs.length > 1) accuracyChart("all", curves, 0, targets.size === 1 ? runs[0].target : null);
}

const MOST_CURVES = 12;

function show() {
  if (!state) return;
  over = state.ended;
  const run = chosen();
  at("run").hidden = !run;
  if (run) showRun(run);
  const running = state.runs.filter((r) => r.status === "running").length;
  document.title = state.title ? `${running} running: ${state.title}`
    : `${run.epochs.length}/${run.num_epochs ?? "?"} ${run.name || "smidgen"}`;
  const now = JSON.stringify([run?.key, state.title && state.runs,
    run && [run.epochs.length, run.steps.length, run.steps[run.steps.length - 1], run.target, run.num_epochs]]);
  if (now === drawn) return;
  drawn = now;
  showOverview(run);
  if (run) drawRun(run);
}

async function poll() {
  try {
    const answer = await fetch("state.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    state = await answer.json();
    failures = 0;
    show();
    if (state.ended) return;
  } catch (error) {
    failures += 1;
    if (failures >= 3) {
      at("status").textContent = "The server has stopped. This page is no longer updated.";
      return;
    }
  }
  setTimeout(poll, state && state.title ? 2000 : 1000);
}

addEventListener("resize", () => { drawn = ""; show(); });
addEventListener("hashchange", show);
poll();
