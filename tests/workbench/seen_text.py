"""What a reader of a page sees, asked in the browser."""

# Text that is seen, with what makes it legible: [text, size in px, contrast] of each.
READ_TEXT = """selector => {
  const parts = text => text.match(/[\\d.]+/g).map(Number)
  const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  const light = colour => {
    const [r, g, b] = colour.map(part => linear(part / 255))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05
  }
  const ground = element => {
    for (; element; element = element.parentElement) {
      const found = parts(getComputedStyle(element).backgroundColor)
      if (found.length < 4 || found[3] === 1) return found.slice(0, 3)
    }
    return [255, 255, 255]
  }
  const holdsText = element => [...element.childNodes].some(
    one => one.nodeType === 3 && one.textContent.trim())
  return [...document.querySelectorAll(selector)].filter(
    element => element.checkVisibility() && holdsText(element)
  ).map(element => {
    const style = getComputedStyle(element)
    const ratio = light(parts(style.color).slice(0, 3)) / light(ground(element))
    return [element.textContent, parseFloat(style.fontSize), Math.max(ratio, 1 / ratio)]
  })
}"""
