// A first click sorts numbers from the largest and texts from A, a second the other way; a third restores the order as
// it was written.  What has no number stays last.
for (const row of document.querySelectorAll('tbody tr')) row.dataset.place = row.sectionRowIndex;
for (const button of document.querySelectorAll('thead button')) button.addEventListener('click', () => {
  const head = button.closest('th'), body = head.closest('table').tBodies[0], at = head.cellIndex;
  const text = head.dataset.kind === 'text', ways = text ? ['ascending', 'descending'] : ['descending', 'ascending'];
  const way = ways[ways.indexOf(head.getAttribute('aria-sort')) + 1];
  for (const other of head.parentNode.cells) other.removeAttribute('aria-sort');
  if (way) head.setAttribute('aria-sort', way);
  const raw = row => row.cells[at].dataset.value, sign = way === 'descending' ? -1 : 1;
  const order = !way ? (a, b) => a.dataset.place - b.dataset.place
    : text ? (a, b) => sign * raw(a).localeCompare(raw(b), 'en', {numeric: true})
    : (a, b) => raw(a) === '' || raw(b) === '' ? (raw(a) === '') - (raw(b) === '') : sign * (raw(a) - raw(b));
  body.append(...[...body.rows].sort(order));
});
