"""Style and script of the page, as they are sent. Pure."""

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root { --back:#f6f7f9; --card:#fff; --line:#dfe3e8; --text:#1b2430; --dim:#5c6877;
  --good:#12703c; --goodback:#dff3e6; --bad:#a3211b; --badback:#fde6e4; --bar:#3b6fd4; }
@media (prefers-color-scheme: dark) { :root { --back:#12161c; --card:#1b212a; --line:#303946;
  --text:#e6eaf0; --dim:#9aa6b5; --good:#7ddba2; --goodback:#173526; --bad:#ffa79f;
  --badback:#46201d; --bar:#7aa5ff; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--back); color:var(--text);
  font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif; }
main { max-width:1100px; margin:0 auto; padding:20px 16px 40px; }
header { display:flex; flex-wrap:wrap; align-items:center; gap:6px 12px; }
h1 { font-size:21px; margin:0; }
h2 { font-size:15px; margin:26px 0 8px; }
.where { margin:0; color:var(--dim); overflow-wrap:anywhere; }
.pill { padding:2px 10px; border-radius:99px; font-weight:600; font-size:13px; }
.good { color:var(--good); background:var(--goodback); }
.bad.pill, .banner { color:var(--bad); background:var(--badback); }
.banner { margin:12px 0 0; padding:9px 12px; border-radius:8px; overflow-wrap:anywhere; }
.banner.mild { color:var(--dim); background:var(--card); border:1px solid var(--line); }
dl { margin:0; } dt { color:var(--dim); } dd { margin:0; font-variant-numeric:tabular-nums; }
.cards { display:grid; grid-template-columns:repeat(auto-fill,minmax(150px,1fr)); gap:10px;
  margin-top:16px; }
.card { background:var(--card); border:1px solid var(--line); border-radius:8px;
  padding:9px 12px; }
.card dt { font-size:13px; }
.card dd { font-size:20px; font-weight:600; }
.card.bad dd { color:var(--bad); }
.scroll { overflow-x:auto; background:var(--card); border:1px solid var(--line);
  border-radius:8px; }
table { border-collapse:collapse; width:100%; }
th, td { padding:6px 12px; text-align:left; vertical-align:top; }
.tight td { white-space:nowrap; }
th { color:var(--dim); font-weight:500; font-size:13px; white-space:nowrap; }
tr + tr td, tbody tr:first-child td { border-top:1px solid var(--line); }
.number { text-align:right; white-space:nowrap; font-variant-numeric:tabular-nums; }
th:first-child, td:first-child { text-align:left; }
td meter { width:64px; height:10px; margin-left:8px; vertical-align:baseline; }
td meter::-webkit-meter-optimum-value { background:var(--bar); }
td meter::-moz-meter-bar { background:var(--bar); }
.facts { display:grid; grid-template-columns:repeat(auto-fill,minmax(250px,1fr)); gap:0 24px;
  background:var(--card); border:1px solid var(--line); border-radius:8px; padding:4px 12px; }
.facts > div { display:flex; justify-content:space-between; gap:12px; padding:4px 0; }
.facts dd { text-align:right; overflow-wrap:anywhere; }
.none { color:var(--dim); font-weight:400; }
.card .none { font-size:15px; }
footer { margin-top:28px; color:var(--dim); font-size:13px; }
footer p { margin:4px 0; } footer a { margin-right:10px; }
a { color:var(--bar); }
"""

# Comes again every five seconds, while it is looked at; says so where nobody answers.
SCRIPT = """
async function refresh() {
  if (!document.hidden) {
    try {
      const reply = await fetch("/", { signal: AbortSignal.timeout(15000) });
      const text = await reply.text();
      // Only what is shown: style and script of the answer have a nonce of their own.
      const shown = text.slice(text.indexOf("<main"), text.indexOf("</main>"));
      const page = new DOMParser().parseFromString(shown, "text/html").getElementById("page");
      if (!page) throw new Error("no page");
      document.title = page.dataset.title;
      document.getElementById("page").replaceChildren(...page.childNodes);
    } catch (error) {
      const stale = document.getElementById("stale");
      if (stale) stale.textContent = "; the sink does not answer now";
    }
  }
  setTimeout(refresh, 5000);
}
setTimeout(refresh, 5000);
"""
