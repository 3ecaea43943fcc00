"""The style sheet of the reports: light and dark, screen, phone and paper."""

STYLE = """
:root{--bg:#fff;--fg:#1c2126;--dim:#5c666f;--line:#d5dbe0;--soft:#f3f5f7;--mark:#f3c96a66;
--k0:#6c757d;--k1:#1766b5;--k2:#1b8a5a;--k3:#d1641b;--k4:#8b48b5;--k5:#b5364c;--good:#cfeedd;--half:#fdeebf;
--bad:#f9d0ca;
--badtext:#b3261e;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--bg:#14181c;--fg:#e6eaee;--dim:#9aa5af;--line:#353d45;--soft:#1d2329;
--mark:#f3c96a40;--k0:#a9b3bc;--k1:#64aef2;--k2:#55c792;--k3:#f0954f;--k4:#c190e6;--k5:#f07c8e;--good:#1f5138;
--half:#5d4e17;--bad:#6b2a24;--badtext:#ff9b8f}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main{max-width:1180px;margin:0 auto;padding:16px 20px}
h1{font-size:1.9rem;margin:.2em 0 0}h2{font-size:1.35rem;margin:1.6em 0 .5em;border-top:1px solid var(--line);
padding-top:.8em}h3{font-size:1.05rem;margin:1.2em 0 .4em}h4{font-size:.95rem;margin:.8em 0 .1em}
small,.sub,.note{color:var(--dim);font-weight:400}.sub{margin:.1em 0}.note{font-size:.9rem;max-width:75ch}
.verdict{border-left:4px solid var(--k1);background:var(--soft);padding:.4em 1em;margin:1em 0;font-size:1.08rem}
.verdict p{margin:.5em 0;max-width:85ch}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px}
.tile{background:var(--soft);border-radius:8px;padding:10px 14px;display:flex;flex-direction:column}
.tile span{color:var(--dim);font-size:.85rem}.tile b{font-size:1.2rem;white-space:nowrap}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:1em 0 0;font-size:.92rem}a{color:var(--k1)}
.scroll{overflow-x:auto;margin:.4em 0}table{border-collapse:collapse;font-size:.9rem;min-width:min(100%,320px)}
th,td{padding:4px 12px 4px 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{color:var(--dim);font-weight:600;vertical-align:bottom}.num{text-align:right;font-variant-numeric:tabular-nums}
td.num{white-space:nowrap}.bad:not(.cell){color:var(--badtext)}
.cell{display:inline-block;min-width:4.5em;text-align:center;border-radius:4px;padding:0 6px;white-space:nowrap}
.cell.good{background:var(--good)}.cell.half{background:var(--half)}.cell.bad{background:var(--bad)}
.zero{color:var(--dim);display:inline-block;min-width:4.5em;text-align:center}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr));gap:18px 26px;margin:1em 0}
.chart svg{width:100%;height:auto;display:block}.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.85rem;
color:var(--dim);padding-left:8%}.legend i{display:inline-block;width:1.1em;height:.55em;border-radius:2px;
margin-right:5px}
.picture .legend{padding:0;justify-content:center}.picture .legend i{width:.8em;height:.8em;border-radius:50%;
border:1px solid var(--dim)}
.b0{background:var(--k0)}.b1{background:var(--k1)}.b2{background:var(--k2)}.b3{background:var(--k3)}
.b4{background:var(--k4)}.b5{background:var(--k5)}.legend i.area{opacity:.45}
path,line{fill:none}.c0{stroke:var(--k0)}.c1{stroke:var(--k1)}.c2{stroke:var(--k2)}.c3{stroke:var(--k3)}
.c4{stroke:var(--k4)}.c5{stroke:var(--k5)}.c0,.c1,.c2,.c3,.c4,.c5{stroke-width:1.8;stroke-linejoin:round}
.c3{stroke-dasharray:4 2.5}.f0{fill:var(--k0)}.f1{fill:var(--k1)}.f2{fill:var(--k2)}.f3{fill:var(--k3)}
.f4{fill:var(--k4)}.f5{fill:var(--k5)}path.area{opacity:.4}.mark{fill:var(--mark)}
.grid{stroke:var(--line);stroke-width:.7}.axis{stroke:var(--dim);stroke-width:1}.dash{stroke-dasharray:5 4}
text{fill:var(--fg);font:12.5px system-ui,sans-serif}.tick{fill:var(--dim)}.middle{text-anchor:middle}
.end{text-anchor:end}
.atom{stroke:#0008;stroke-width:.7}.crystal{width:200px;height:200px;display:block;margin:0 auto}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:16px;align-items:start}
.card{border:1px solid var(--line);border-radius:10px;padding:6px 16px 12px;min-width:0}.card h3{margin:.5em 0 0}
dl{display:grid;grid-template-columns:auto 1fr;gap:2px 12px;font-size:.9rem;margin:.6em 0}dt{color:var(--dim)}
dd{margin:0;
overflow-wrap:anywhere}.words{max-width:80ch}.id{font:.85rem ui-monospace,monospace;color:var(--dim);margin:.4em 0}
pre{font:.78rem/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;background:var(--soft);
padding:8px;border-radius:6px;max-height:420px;overflow-y:auto}summary{cursor:pointer;color:var(--k1);padding:.3em 0}
@media (max-width:600px){body{font-size:15px}header,main{padding:10px 14px}h1{font-size:1.5rem}
text{font-size:14px}.scroll td.wide{min-width:8em}.stack thead{display:none}.stack tr{display:block;
border-bottom:1px solid var(--line);padding:6px 0}.scroll .stack td{display:block;border:0;padding:1px 0;
text-align:left}
.stack td:before{content:attr(data-label)": ";color:var(--dim)}.tile b{font-size:1.05rem}
.tiles{grid-template-columns:1fr 1fr}}
@media print{:root{--bg:#fff;--fg:#000;--dim:#444;--line:#bbb;--soft:#f4f4f4}nav,summary{display:none}
body{font-size:10.5pt}header,main{max-width:none;padding:0}.card,.charts>*,tr{break-inside:avoid}pre{max-height:none}
.charts{grid-template-columns:1fr 1fr}h2{break-after:avoid}}
"""
