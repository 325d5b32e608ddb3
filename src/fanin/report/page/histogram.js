// A histogram as a picture: counts between two values, evenly cut.

function histogram([title, low, high, counts]) {
  const width = 260, height = 96;
  const tallest = Math.max(1, ...counts), total = counts.reduce((a, b) => a + b, 0);
  const edge = (i) => low + ((high - low) * i) / counts.length;
  const range = (i) => `${numberText(edge(i))} … ${numberText(edge(i + 1))}`;
  const bars = counts.map((count, i) => {
    const size = (count / tallest) * height;
    return svg("rect", {
      x: (i / counts.length) * width, width: width / counts.length, y: height - size, height: size,
    }, svg("title", {}, `${range(i)}: ${count}`));
  });
  const told = total
    ? `${title}: ${total} values between ${numberText(low)} and ${numberText(high)}, most in ${range(counts.indexOf(tallest))}`
    : `${title}: no finite values`;
  return html("figure", { class: "histogram" },
    html("figcaption", {}, title),
    svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": told }, ...bars),
    html("div", { class: "ends" }, html("span", {}, numberText(low)), html("span", {}, numberText(high))),
    dataTable(["from … to", "count"], () => counts.map((count, i) => [range(i), String(count)])));
}
