//! Pages as a browser shows them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs a script in a page, in headless Chromium, and answers what it returns.
///
/// The script is put at the end of a copy of the page, and what it returns is read from the document.
pub(crate) fn look(page: &str, script: &str, directory: &Path) -> Value {
    let report = format!(
        "<script>const report = document.createElement('pre'); report.id = 'report'; \
         report.textContent = 'BEGIN' + JSON.stringify((() => {{ {script} }})()) + 'END'; \
         document.body.append(report);</script></body>"
    );
    assert_eq!(page.matches("</body>").count(), 1, "a page ends once");
    let file = directory.join("looked-at.html");
    std::fs::write(&file, page.replace("</body>", &report)).expect("writes");
    let dom = chromium(&file, directory, &["--dump-dom"]);
    let text = String::from_utf8(dom).expect("text");
    let report = text
        .split_once("BEGIN{")
        .and_then(|(_, rest)| rest.split_once("}END"));
    let (report, _) = report.unwrap_or_else(|| panic!("the script has returned nothing: {text}"));
    // What the document's text is in HTML.
    let report = format!("{{{report}}}")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    serde_json::from_str(&report).expect("what the script returns")
}

/// What Chromium prints about a file. It reaches for nothing but that.
fn chromium(file: &Path, directory: &Path, what: &[&str]) -> Vec<u8> {
    let profile = directory.join("profile");
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
        ])
        .args(["--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("--window-size=1400,900")
        .args(what)
        .arg(format!("file://{}", file.display()))
        .output()
        .expect("`cargo xtask test` installs chromium");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    output.stdout
}
