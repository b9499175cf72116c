"""What the gallery says of itself and of each policy, and how it looks."""

ADVICE = """<ol>
<li>Name each picture's class by eye. Where you cannot, the label has become a lie, and the policy
is too strong.
<li>Ask what differs between your training and your test images: light, angle, distance, camera. A
policy that varies this may help; one that varies what tells the classes apart does harm.
<li>Look at several images, the odd ones above all: pick them below.
<li>Of two that look alike to you take the cheaper one. The cost is paid by the host's cores, and
costs time only where the device waits for images.
<li><b>Then let validation decide.</b> An augmentation earns its place by a better out-of-fold score
than flip-crop or none, on the same folds and seed, by more than chance. No eye can see that, and no
trick is adopted without evidence.
</ol>"""
# What to look for, by policy.
HINTS = {
    "none": "What all others are measured against.",
    "flip-crop": "Would a mirror image still be of its class, and is what matters inside the cut?",
    "light": "Turned and lit a little differently, as another photograph would be.",
    "colour": "Does harm where colour tells the classes apart: ripeness, stains, rust.",
    "randaugment": "Two strong operations of fourteen. A few may look odd; most should still be "
    "recognised at once.",
    "mixup": "Two images in one, and a target for each in its share. Most shares are near 0 or 1. "
    "It often wants longer training.",
    "cutmix": "A part of another image is set in, and the target shared by area. Look whether the "
    "part shows what it is a share of.",
    "albumentations:shift-scale-rotate": "Turned by up to 45°: for what has no upright.",
    "albumentations:coarse-dropout": "Could a hole hide all that tells the class?",
    "albumentations:blur-noise": "Does harm where fine texture tells the classes apart.",
    "albumentations:grid-distort": "Does harm where lengths and straight lines are judged.",
    "albumentations:hard": "Much at once: for large networks and long training.",
}
GALLERY_CSS = """
h1{font-size:clamp(1.7rem,5vw,2.4rem)}h2{overflow-wrap:anywhere}
ol{margin:.5rem 0 0; padding-left:1.3em}ol li{margin:.35rem 0}section{scroll-margin-top:6.8rem}
a{color:var(--valid)}
.index{display:grid;gap:.5rem;
grid-template-columns:repeat(auto-fill,minmax(min(100%,9.2rem),1fr)); list-style:none;padding:0}
.index a{display:flex;flex-direction:column;justify-content:center; min-height:2.75rem;
height:100%;padding:.35rem .7rem;border:1px solid var(--line);border-radius:10px;
 text-decoration:none;overflow-wrap:anywhere;line-height:1.3}
.index a:hover{border-color:var(--valid)}
.cost{color:var(--soft);font-size:.85rem;white-space:nowrap}
fieldset{position:sticky;top:0;z-index:1;margin:1rem 0 0;padding:.5rem;
border:1px solid var(--line); border-radius:14px;background:var(--card);min-width:0;
box-shadow:0 4px 14px rgb(0 0 0/.12)}
legend{float:left;font-size:.85rem;color:var(--soft);padding:0 .3rem .3rem}
.picks{clear:both;display:flex;gap:.4rem;overflow-x:auto;padding:3px}
.picks label{flex:none; position:relative;display:block;border-radius:8px;cursor:pointer}
.picks input{position:absolute;inset:0;margin:0;opacity:0;width:100%;height:100%;cursor:pointer}
.picks img,.picks span{display:grid;place-items:center;width:3.1rem;height:3.1rem;
object-fit:cover; border-radius:8px;border:1px solid var(--line)}
.picks :checked+*{outline:3px solid var(--valid)}
.picks :focus-visible+*{outline:3px solid var(--train)}.picks span{font-size:.85rem}
.head{display:flex;flex-wrap:wrap;gap:.2rem 1rem;align-items:baseline;
 justify-content:space-between}.does{margin:0}.row{margin-top:.9rem}
h3{font-size:.85rem;font-weight:500;margin:0 0 .4rem;color:var(--soft);overflow-wrap:anywhere}
.six{display:grid;gap:.6rem;grid-template-columns:repeat(3,minmax(0,1fr))}
@media(min-width:48rem){legend{padding:1.1rem .8rem}.picks{clear:none}.six{
grid-template-columns:repeat(6,minmax(0,1fr))}}
figure{text-align:left;min-width:0;overflow-wrap:anywhere}
figure img{width:100%; aspect-ratio:1;display:block;border-radius:8px;margin-bottom:.3rem;
background:var(--page)}figure.own img{outline:2px solid var(--soft);outline-offset:1px}
figcaption{font-size:.8rem; color:var(--soft)}figcaption b{color:var(--ink)}
.mix{color:var(--ink);display:block}details{margin:.2rem 0 -.6rem}details[open]{margin-bottom:0}
summary{min-height:2.75rem;padding:0;display:flex;align-items:center;gap:.5rem; cursor:pointer;
color:var(--valid)}summary::before{content:"▸"}[open]>summary::before{content:"▾"}
summary::-webkit-details-marker{display:none}.drawn{columns:22rem;column-gap:2rem;font-size:.85rem;margin:0}
.note{padding:.6rem .9rem;border:1px solid #e69f00;border-radius:10px;background:var(--warn);
 color:var(--ink);margin:.7rem 0 0}
.drawn li{margin:0 0 .35rem;break-inside:avoid}
"""
