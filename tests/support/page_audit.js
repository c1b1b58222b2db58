// What the tests of the page look for in it; an expression, evaluated there.
({
  /** Controls that a screen reader could not name. */
  nameless: () => [...document.querySelectorAll('a, button, input, select, summary, section')]
    .filter((node) => node.checkVisibility())
    .filter((node) => !(node.labels?.length || node.ariaLabel || node.getAttribute('aria-labelledby')
                        || node.matches('section.column') || node.innerText?.trim()))
    .map((node) => node.outerHTML.slice(0, 200)),

  /** Controls whose spoken name lacks the words that are seen (WCAG 2.5.3). */
  unsaid: () => [...document.querySelectorAll('button[aria-label], summary[aria-label], a[aria-label]')]
    .filter((node) => node.checkVisibility() && !node.ariaLabel.includes(node.innerText.replace(/ ×$/, '').trim()))
    .map((node) => node.outerHTML.slice(0, 200)),

  /** Ids that more than one element has. */
  twice: () => { const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
    return ids.filter((id, index) => ids.indexOf(id) !== index); },

  /** Texts with less contrast than WCAG 2.2 asks for (4.5) to the nearest background behind them. */
  faint: () => {
    const parse = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
    const light = (color) => parse(color).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
      .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = (node) => {
      for (let each = node; each; each = each.parentElement) {
        const color = getComputedStyle(each).backgroundColor;
        if ((parse(color)[3] ?? 1) === 1) return color;
      }
      return 'rgb(255, 255, 255)';
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const faint = [];
    while (walker.nextNode()) {
      const node = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.matches(':disabled, noscript')) continue;
      const [one, other] = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
      const contrast = (one + 0.05) / (other + 0.05);
      if (contrast < 4.5) faint.push(`${contrast.toFixed(2)} ${walker.currentNode.data.trim().slice(0, 30)}`);
    }
    return faint;
  },

  /** All words of the page that are not data: texts, labels and hints. */
  words: () => {
    const words = [];
    const data = '.hit-title, .hit-text, .hit-rank, .score-value, .relevance-value, .metadata, .hit-id code, .example, '
      + '.hit-details div:has(.value-button), '
      + 'bdi, legend, #page-language, '
      + '.filter-count, option, noscript';
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.data.trim() && !node.parentElement.closest(data)) words.push(node.data.trim());
    }
    for (const node of document.querySelectorAll('[aria-label], [title], [placeholder]')) {
      if (node.closest('.example')) continue;
      for (const name of ['aria-label', 'title', 'placeholder']) {
        const value = node.getAttribute(name);
        if (value) words.push(value);
      }
    }
    return words;
  },
})
