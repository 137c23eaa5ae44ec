"""The style and the script of a page of hits: grid, enlarged view, keys."""

HITS_STYLE = """
body { max-width: 110rem; }
header { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; justify-content: space-between;
  align-items: start; } header > div { min-width: 0; flex: 1 1 20rem; }
button { font: inherit; color: inherit; }
.small { font: inherit; font-size: .9rem; padding: .25rem .7rem; background: var(--track);
  border: 1px solid var(--soft); border-radius: 4px; cursor: pointer; white-space: nowrap; }
a { color: var(--bar); } :focus-visible { outline: 3px solid var(--bar); outline-offset: 2px; }
nav ol { list-style: none; margin: 1rem 0 0; padding: .25rem; display: flex; flex-wrap: wrap;
  gap: .4rem; max-height: 12rem; overflow-y: auto; border: 1px solid var(--line);
  border-radius: 4px; }
nav a { display: flex; align-items: center; gap: .4rem; max-width: 15rem; padding: .2rem .6rem .2rem
  .2rem; border-radius: 4px; background: var(--track); font-size: .85rem; color: var(--ink);
  text-decoration: none; } nav a:hover { text-decoration: underline; }
nav img, nav .none { width: 2.2rem; height: 2.2rem; object-fit: cover; border-radius: 3px;
  flex: none; background: var(--line); }
nav bdi { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
section { margin-top: 1.5rem; padding-top: 1rem; border-top: 1px solid var(--line);
  scroll-margin-top: .5rem; } section h2 { margin: .3rem 0; overflow-wrap: anywhere; }
.query .frame { height: 13rem; border-color: var(--ink); }
.about { min-width: 0; font-size: .9rem; } .about p { margin: .2rem 0; }
@media (min-width: 52rem) {
  section { display: grid; grid-template-columns: 15rem minmax(0, 1fr); gap: 0 1.75rem; }
  .query { position: sticky; top: .75rem; align-self: start; } }
@media (max-width: 51.99rem) { .query { display: grid; gap: .75rem; margin-bottom: .75rem;
  grid-template-columns: 8rem minmax(0, 1fr); align-items: start; }
  .query .frame { height: 8rem; } }
ol.hits { list-style: none; margin: 0; padding: 0; display: grid; gap: .9rem .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(10.5rem, 44%), 1fr)); }
/* What is off the screen is neither laid out nor painted; its height is guessed until it was. */
.hit { min-width: 0; padding: 4px; font-size: .85rem; line-height: 1.4;
  content-visibility: auto; contain-intrinsic-size: auto 11rem auto var(--tall); }
.frame { display: flex; align-items: center; justify-content: center; width: 100%; height: 8.5rem;
  padding: 0; background: var(--track); border: 3px solid var(--line); border-radius: 5px;
  overflow: hidden; cursor: zoom-in; color: var(--soft); }
.frame img { display: block; width: 100%; height: 100%; object-fit: contain; }
.right .frame { border-color: var(--right); }
.wrong .frame { border: 2px dashed var(--wrong); }
.line { display: flex; justify-content: space-between; gap: .5rem; margin-top: .3rem;
  font-variant-numeric: tabular-nums; } .rank { color: var(--soft); }
.length { height: .35rem; border-radius: 2px; margin: .15rem 0 .3rem;
  background: linear-gradient(to right, var(--bar) var(--part), var(--track) 0); }
.branches { display: grid; grid-template-columns: max-content 1fr max-content; gap: 0 .4rem;
  align-items: center; margin: 0 0 .2rem; font-size: .8rem; font-variant-numeric: tabular-nums; }
.branches > * { margin: 0; } .branches .length { margin: 0; height: .25rem; }
.hit p { margin: 0; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2;
  overflow: hidden; overflow-wrap: anywhere; }
.right b { color: var(--right); } .wrong b { color: var(--wrong); }
dialog { color: var(--ink); background: var(--paper); border: 1px solid var(--soft);
  border-radius: 6px; padding: .75rem; max-width: none; max-height: none; }
dialog::backdrop { background: rgb(0 0 0 / .6); }
#viewer { width: min(96vw, 76rem); height: min(96vh, 60rem); }
#viewer[open] { display: grid; gap: .5rem; grid-template-rows: auto minmax(0, 1fr) auto; }
#viewer .top { display: flex; gap: .75rem; justify-content: space-between; align-items: start; }
#viewer h2 { margin: 0; font-size: 1rem; overflow-wrap: anywhere; overflow: hidden;
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; }
#viewer .stage { display: grid; grid-template-columns: auto minmax(0, 1fr) auto; gap: .5rem;
  align-items: center; min-height: 0; } #viewer .step { font-size: 1.5rem; padding: .8rem .6rem; }
#viewer .step:disabled { opacity: .35; cursor: default; }
#viewer .picture { height: 100%; min-height: 0; display: flex; align-items: center;
  justify-content: center; background: var(--track); border-radius: 4px; }
#viewer .picture img { width: 100%; height: 100%; object-fit: contain; }
#viewer .below { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: .75rem;
  align-items: start; font-size: .9rem; max-height: 34vh; overflow-y: auto; }
#viewer .asked { width: 5.5rem; height: 5.5rem; object-fit: contain; background: var(--track);
  border: 2px solid var(--ink); border-radius: 4px; }
#viewer .words { max-width: 34rem; } #viewer .words p { margin: .1rem 0; overflow-wrap: anywhere; }
#viewer .line { justify-content: start; gap: 1rem; margin: 0; }
#viewer .line .unseen { position: static; clip-path: none; }
#keys h2 { margin: 0 0 .5rem; }
#keys { max-width: min(92vw, 34rem); } #keys td, #keys th { text-align: left; }
#keys td { white-space: normal; }
kbd { font: inherit; font-size: .85em; padding: 0 .35em; border: 1px solid var(--soft);
  border-radius: 3px; }
@media (max-width: 30rem) { body { padding: 1rem .6rem 2rem; } .frame { height: 8rem; }
  #viewer { padding: .4rem; width: 100vw; height: 100dvh; border: 0; border-radius: 0; }
  #viewer .stage { gap: .15rem; } #viewer .step { padding: .6rem .3rem; } }
"""
# Items are looked at by the place of their <li>: asking for that of what is in one would lay it
# out. A picture that stands on the page more than once is in it once.
HITS_SCRIPT = """
(() => {
  const find = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  for (const image of all('img[data-of]'))
    image.src = document.getElementById('p' + image.dataset.of).src;
  const viewer = find('#viewer'), keys = find('#keys'), title = find('#viewer h2');
  const stage = find('.picture', viewer), words = find('.words', viewer);
  const asked = find('.asked', viewer), count = find('.count', viewer);
  const [back, on] = all('.step', viewer);
  const items = all('.item'), sections = all('section');
  let now = null;
  const frame = item => find('.frame', item);
  const group = item => all('.item', item.closest('section'));
  const go = item => { if (item) frame(item).focus(); return !!item; };
  const show = item => {
    now = item;
    const list = group(item), place = list.indexOf(item), button = frame(item);
    const small = find('img', button);
    const large = document.getElementById('l' + button.dataset.picture);
    stage.replaceChildren();
    if (small) {
      const image = new Image();
      // Of a small one more pixels on the screen show nothing more.
      image.onload = () => { image.style.maxWidth = `${3 * image.naturalWidth}px`; };
      image.alt = small.alt; image.src = large ? large.textContent : small.src;
      stage.append(image);
    } else stage.textContent = button.textContent;
    title.textContent = button.dataset.title;
    words.replaceChildren(...all('.about', item).flatMap(e => [...e.cloneNode(true).childNodes]));
    for (const name of all('bdi[title]', words)) name.textContent = name.title;
    words.classList.toggle('right', item.classList.contains('right'));
    words.classList.toggle('wrong', item.classList.contains('wrong'));
    if (button.dataset.note) {
      const note = document.createElement('p');
      note.className = 'soft'; note.textContent = button.dataset.note; words.append(note);
    }
    const question = find('.frame img', list[0]);
    asked.hidden = !question || !place;
    if (question) asked.src = question.src;
    count.textContent = place ? `${place} of ${list.length - 1}` : 'the query';
    back.disabled = !place; on.disabled = place === list.length - 1;
    if (!viewer.open) viewer.showModal();
  };
  const step = by => {
    const list = group(now), next = list[list.indexOf(now) + by];
    if (next) show(next);
  };
  for (const item of items) frame(item).addEventListener('click', () => show(item));
  back.addEventListener('click', () => step(-1)); on.addEventListener('click', () => step(1));
  for (const dialog of [viewer, keys]) {
    find('.close', dialog).addEventListener('click', () => dialog.close());
    dialog.addEventListener('click', event => {
      const box = dialog.getBoundingClientRect(), { clientX: x, clientY: y, target } = event;
      const inside = x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
      if (target === dialog && !inside) dialog.close();
    });
  }
  viewer.addEventListener('close', () => { stage.replaceChildren(); go(now); now = null; });
  find('#ask').addEventListener('click', () => keys.showModal());
  const here = () => document.activeElement.closest && document.activeElement.closest('.item');
  const first = () => items.find(item => item.getBoundingClientRect().top >= 0) || items[0];
  const beside = by => { const at = here(); return at ? items[items.indexOf(at) + by] : first(); };
  const below = way => {
    const at = here(), left = at.offsetLeft, top = at.offsetTop;
    const row = items.filter(i => i.closest('section') === at.closest('section')
      && !i.matches('.query') && way * (i.offsetTop - top) > 0 && i.offsetLeft === left);
    return way > 0 ? row[0] : row[row.length - 1];
  };
  const query = way => {
    const section = (here() || first()).closest('section');
    const next = sections[sections.indexOf(section) + way];
    if (!next) return false;
    next.scrollIntoView(); return go(find('.item', next));
  };
  const inViewer = { ArrowLeft: () => step(-1), ArrowUp: () => step(-1), k: () => step(-1),
    ArrowRight: () => step(1), ArrowDown: () => step(1), j: () => step(1),
    Home: () => show(group(now)[0]), End: () => show(group(now).at(-1)) };
  const onPage = { j: () => go(beside(1)), k: () => go(beside(-1)), n: () => query(1),
    p: () => query(-1) };
  const onItem = { ArrowRight: () => go(beside(1)), ArrowLeft: () => go(beside(-1)),
    ArrowDown: () => go(below(1)), ArrowUp: () => go(below(-1)) };
  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === '?') {
      keys.open ? keys.close() : keys.showModal(); event.preventDefault(); return;
    }
    if (keys.open) return;
    const way = viewer.open ? inViewer[event.key]
      : onPage[event.key] || (here() && document.activeElement === frame(here())
        && onItem[event.key]);
    if (way && way() !== false) event.preventDefault();
  });
})();
"""
VIEWER = """
<dialog id="viewer" aria-labelledby="viewer-title"><div class="top">
<h2 id="viewer-title"></h2>
<button class="small close" type="button" aria-label="Close">Close <kbd>Esc</kbd></button></div>
<div class="stage"><button class="small step" type="button" aria-label="Previous">&lsaquo;</button>
<div class="picture"></div>
<button class="small step" type="button" aria-label="Next">&rsaquo;</button></div>
<div class="below"><img class="asked" alt="the query" hidden>
<div aria-live="polite"><p class="count soft"></p><div class="words"></div></div></div></dialog>
<dialog id="keys" aria-labelledby="keys-title"><div class="top"><h2 id="keys-title">Keys</h2></div>
<table><tbody>
<tr><th scope="row"><kbd>j</kbd> <kbd>k</kbd></th><td>next and previous hit</td></tr>
<tr><th scope="row">arrows</th><td>from hit to hit, once one has the focus</td></tr>
<tr><th scope="row"><kbd>n</kbd> <kbd>p</kbd></th><td>next and previous query</td></tr>
<tr><th scope="row"><kbd>Enter</kbd></th><td>enlarge; then arrows, <kbd>Home</kbd>, <kbd>End</kbd>
go on, <kbd>Esc</kbd> closes</td></tr>
<tr><th scope="row"><kbd>?</kbd></th><td>these keys</td></tr></tbody></table>
<p><button class="small close" type="button">Close</button></p></dialog>
"""
