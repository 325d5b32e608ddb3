"use strict";
// Elements, numbers as people write them, and the table behind a picture.
// Names reach the page as text nodes and attributes only, never as markup.

function html(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Four digits; infinities and NaN arrive as text.
function numberText(value) {
  if (typeof value === "string" || value === 0) return String(value);
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(4)));
  const [mantissa, exponent] = value.toExponential(2).split("e");
  return `${Number(mantissa)}e${exponent}`;
}

// 10 to an integer power as an axis shows it: 0.01, 1, 100, then 10⁵.
function powerText(exponent) {
  if (Math.abs(exponent) <= 3) return numberText(Number(`1e${exponent}`));
  return "10" + String(exponent).replace(/./g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
}

// A closed `details` that writes its table when it is first opened.
function dataTable(headings, rows) {
  const details = html("details", { class: "data" }, html("summary", {}, "Data"));
  details.addEventListener("toggle", () => {
    if (details.querySelector("table")) return;
    const line = (tag, cells) => html("tr", {}, ...cells.map((cell) => html(tag, {}, cell)));
    const table = html("table", {},
      html("thead", {}, line("th", headings)),
      html("tbody", {}, ...rows().map((cells) => line("td", cells))));
    details.append(html("div", { class: "box", role: "region", tabindex: 0, "aria-label": "Data" }, table));
  });
  return details;
}
