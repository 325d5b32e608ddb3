// Puts the parts together. The page calls `openCharts` after the charts of each section and `openPage` at its end.

const opened = new Map(); // figures and their charts

function openCharts() {
  for (const figure of document.querySelectorAll(".chart")) {
    if (!opened.has(figure)) opened.set(figure, new Chart(figure));
  }
}

function openPage() {
  openTheme(document.getElementById("theme"));
  document.querySelectorAll(".block").forEach(openSection);
  document.querySelectorAll(".tabs").forEach(openTabs);
}

function openSection(section) {
  const charts = [...section.querySelectorAll(".chart")].map((figure) => opened.get(figure));
  const listing = section.querySelector(".listing");
  if (!listing) return;
  const table = new SortedTable(listing);
  const details = section.querySelector(".details");
  if (!details) return;
  const source = details.querySelector("script");
  const histograms = JSON.parse(source.textContent);
  section.addEventListener("chosen", ({ detail: row }) => {
    const pictures = histograms[row].map(histogram);
    details.replaceChildren(html("h3", {}, table.names[row].textContent),
      ...(pictures.length ? pictures : [html("p", { class: "quiet" }, "No histogram was kept of it.")]));
    charts.forEach((chart) => chart.choosePlace(row));
  });
  section.addEventListener("choose", ({ detail: row }) => {
    table.choose(row);
    table.reveal(row);
  });
  table.choose(Number(source.dataset.chosen));
  table.reveal(Number(source.dataset.chosen));
}

function openTabs(list) {
  const tabs = [...list.children];
  const show = (chosen) => tabs.forEach((tab) => {
    tab.setAttribute("aria-selected", tab === chosen);
    tab.tabIndex = tab === chosen ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
  });
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => show(tab));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = tabs[(to + tabs.length) % tabs.length];
      show(next);
      next.focus();
    });
  });
  show(tabs[0]);
}

function openTheme(toggle) {
  let dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const say = () => { toggle.textContent = dark ? "Light theme" : "Dark theme"; };
  toggle.addEventListener("click", () => {
    dark = !dark;
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    say();
  });
  toggle.hidden = false;
  say();
}
