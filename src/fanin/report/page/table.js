// A table that sorts by any heading, filters by words, and whose rows can be chosen.

class SortedTable {
  constructor(listing) {
    this.listing = listing;
    this.body = listing.querySelector("tbody");
    this.rows = [...this.body.rows];
    this.texts = this.rows.map((row) => row.textContent.toLowerCase());
    this.headings = [...listing.querySelectorAll("thead th")];
    this.headings.forEach((heading, i) => heading.firstElementChild.addEventListener("click", () => this.sort(i)));
    this.count = listing.querySelector("output");
    const field = listing.querySelector("input");
    field.addEventListener("input", () => this.filter(field.value));
    this.names = this.rows.map((row) => row.querySelector("button")); // null where rows cannot be chosen
    if (this.names[0]) this.listen();
  }

  // Ascending, then descending, then as it was.
  sort(column) {
    const now = this.headings[column].getAttribute("aria-sort");
    const next = { ascending: "descending", descending: null }[now] ?? (now ? null : "ascending");
    this.headings.forEach((heading) => heading.removeAttribute("aria-sort"));
    if (next) this.headings[column].setAttribute("aria-sort", next);
    this.body.append(...(next ? this.sorted(column, next === "ascending" ? 1 : -1) : this.rows));
  }

  sorted(column, sign) {
    const numeric = this.headings[column].classList.contains("right");
    const keys = new Map(this.rows.map((row) => {
      const text = row.cells[column].textContent;
      return [row, numeric ? numberOf(text) : text];
    }));
    const order = new Intl.Collator("en", { numeric: true }).compare;
    return [...this.rows].sort((a, b) => {
      const one = keys.get(a), other = keys.get(b);
      if (!numeric) return sign * order(one, other);
      if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) - Number.isNaN(other); // last, both ways
      return one === other ? 0 : sign * (one < other ? -1 : 1);
    });
  }

  filter(text) {
    const words = text.toLowerCase().split(/\s+/);
    let left = 0;
    this.rows.forEach((row, i) => {
      row.hidden = !words.every((word) => this.texts[i].includes(word));
      left += !row.hidden;
    });
    this.count.textContent = left === this.rows.length ? `${left} rows` : `${left} of ${this.rows.length} rows`;
    if (this.names[0]) this.reach();
  }

  // Choosing: one name is in the tab order, arrows go from it to the next.

  listen() {
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row && !getSelection().toString()) this.choose(this.rows.indexOf(row));
    });
    this.body.addEventListener("keydown", (event) => {
      const names = [...this.body.rows].filter((row) => !row.hidden).map((row) => row.querySelector("button"));
      const at = names.indexOf(event.target);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: names.length - 1 }[event.key];
      if (at < 0 || to === undefined) return;
      event.preventDefault();
      const next = names[Math.max(0, Math.min(names.length - 1, to))];
      this.reach(next);
      next.focus();
    });
  }

  choose(index) {
    this.names.forEach((name, i) => {
      name.setAttribute("aria-pressed", i === index);
      this.rows[i].classList.toggle("chosen", i === index);
    });
    this.reach(this.names[index]);
    this.listing.dispatchEvent(new CustomEvent("chosen", { bubbles: true, detail: index }));
  }

  // Tab reaches this name, or the first that is left.
  reach(wanted = this.names.find((name) => name.tabIndex === 0 && !name.closest("tr").hidden)) {
    const first = [...this.body.rows].find((row) => !row.hidden)?.querySelector("button");
    for (const name of this.names) name.tabIndex = -1;
    const reached = wanted ?? first;
    if (reached) reached.tabIndex = 0;
  }

  // Bring the row into its box without moving the page.
  reveal(index) {
    const box = this.listing.querySelector(".box"), row = this.rows[index];
    const above = row.offsetTop - this.listing.querySelector("thead").offsetHeight - box.scrollTop;
    const below = row.offsetTop + row.offsetHeight - box.scrollTop - box.clientHeight;
    if (above < 0) box.scrollTop += above;
    else if (below > 0) box.scrollTop += below;
  }
}

// "12.5 %" is 12.5, "inf" is infinite, "×16" is 16; what is no number comes last.
function numberOf(text) {
  const bare = text.trim().replace(/^×/, "").replace("−", "-");
  if (/^[-+]?inf/i.test(bare)) return bare.startsWith("-") ? -Infinity : Infinity;
  return parseFloat(bare);
}
