//! The report in a browser: nothing is wider than the window, the console is empty, and text is
//! readable, in wide and narrow windows, in light and in dark.
//!
//! The browser is headless Chromium: `CHROMIUM` names it, or `PATH` contains one of the usual
//! names. If it is missing, the test fails with `CI` set; without `CI` it prints what is missing
//! and passes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// Widths of windows, in CSS pixels.
const WIDTHS: [u64; 2] = [1280, 400];

/// The least contrast of text that WCAG requires.
const CONTRAST: f64 = 4.5;

/// Shows a page in frames of several widths, with its `details` closed and then open, and writes
/// its observations into the document.
const PROBE: &str = r#"
addEventListener('load', () => {
  const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const paper = (view, one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = numbers(view.getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const seen = [];
  for (const frame of document.querySelectorAll('iframe')) {
    const view = frame.contentWindow, page = frame.contentDocument, root = page.documentElement;
    const look = (folded) => {
      const outside = [...page.querySelectorAll('body *')].filter((one) => {
        const box = one.getBoundingClientRect();
        return box.width > 0 && box.right > view.innerWidth + 1 && !one.closest('.scroll');
      });
      const faint = [...page.querySelectorAll('p, dt, dd, th, li, figcaption, summary, .soft, code')].map((one) => {
        const [a, b] = [light(numbers(view.getComputedStyle(one).color)), light(paper(view, one))];
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.className + ' ' + one.tagName];
      }).sort((a, b) => a[0] - b[0])[0];
      const texts = [...page.querySelectorAll('figure > svg text')].map((one) => one.getBoundingClientRect().height);
      seen.push({
        folded, width: view.innerWidth, scroll: root.scrollWidth,
        dark: view.matchMedia('(prefers-color-scheme: dark)').matches,
        paper: view.getComputedStyle(page.body).backgroundColor,
        outside: outside.slice(0, 5).map((one) => one.tagName + '.' + one.className),
        contrast: faint[0], faintest: faint[1],
        sections: page.querySelectorAll('section').length,
        drawings: page.querySelectorAll('figure > svg').length,
        smallest: Math.min(...texts.filter((height) => height > 0)),
      });
    };
    look(true);
    page.querySelectorAll('details').forEach((one) => { one.open = true; });
    look(false);
  }
  const result = document.createElement('pre');
  result.id = 'seen';
  result.textContent = JSON.stringify(seen);
  document.body.replaceChildren(result);
});
"#;

fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let names = ["chromium", "chromium-browser", "chromium-headless-shell", "google-chrome"];
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&paths)
        .flat_map(|directory| names.map(|name| directory.join(name)))
        .filter(|path| path.is_file());
    found.next()
}

fn bench_suite(directory: &Path, arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_bench-suite"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a report with every section that takes only a few seconds to measure.
fn report(directory: &Path) -> String {
    let quick = ["--warmup", "0.001", "--quiet", "--json", "records"];
    let run = |arguments: &[&str]| bench_suite(directory, &[arguments, &quick].concat());
    let short = ["--rounds", "2", "--duration", "1"];
    run(&[&["read-side", "--case", "grace-period"], &short[..]].concat());
    let flood = ["flood", "--case", "overwrite", "--size", "256", "--threads", "1"];
    let policies = ["--reader", "none,stall-100ms", "--policy", "immediate,after-rcu-gp"];
    run(&[&flood[..], &policies, &short].concat());
    let compare = ["compare", "--data", "random", "--case", "lookup-hit,update", "--no-html"];
    run(&[&compare[..], &short].concat());
    let maps = ["--threads", "1", "--policy", "immediate,after-rcu-gp"];
    let htab_mem = ["htab-mem", "--case", "overwrite", "--value-size", "8"];
    run(&[&htab_mem[..], &maps, &short].concat());
    run(&[&["map-perf"], &maps[..], &short].concat());
    run(&[&["advise", "--validate", "yes"], &short[..]].concat());
    add_guests(&directory.join("records"));
    bench_suite(directory, &["report", "--html", "page.html", "records"]);
    std::fs::read_to_string(directory.join("page.html")).unwrap()
}

/// Records, and the report of them.
static REPORT: LazyLock<[String; 2]> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let page = report(directory.path());
    [std::fs::read_to_string(directory.path().join("records")).unwrap(), page]
});

/// The rivals of `flood`, as in a build with the feature `rivals`.
const RIVALS: [&str; 5] = ["crossbeam-epoch", "seize", "seize-4096", "haphazard", "kovan"];

/// Adds copies of the records of `after-rcu-gp`: of `flood` for each rival, and of `htab-mem` for
/// the kernel's map where it could not be measured.
fn add_guests(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let has_kernel = text.contains("\"subject\":\"kernel\"");
    let mut all = String::new();
    for line in text.lines() {
        all += &format!("{line}\n");
        let record: Value = serde_json::from_str(line).unwrap();
        if record["policy"] != "after-rcu-gp" {
            continue;
        }
        let mut add = |name: &str, param: &str, value: &str| {
            let mut guest = record.clone();
            (guest["subject"], guest["policy"]) = (name.into(), Value::Null);
            guest["params"][param] = value.into();
            all += &format!("{guest}\n");
        };
        if record["bench"] == "flood" {
            RIVALS.iter().for_each(|name| add(name, "version", &format!("{name} 1.2.3")));
        } else if record["bench"] == "htab-mem" && !has_kernel {
            ["no prealloc", "prealloc"].iter().for_each(|kind| add("kernel", "prealloc", kind));
        }
    }
    std::fs::write(path, all).unwrap();
}

/// The same records go to the other commands that read them.
#[test]
fn records_with_every_kind_of_subject_can_be_shown_exported_and_compared() {
    let [records, page] = &*REPORT;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("records"), records).unwrap();
    let said = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench-suite"));
        let output = command.args(arguments).current_dir(directory.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let [csv, md, cmp] = [
        said(&["export", "csv", "records"]),
        said(&["export", "md", "records"]),
        said(&["cmp", "records", "records"]),
    ];
    // A narrow table may break a name at a hyphen.
    let cmp = cmp.replace("-\n", "-");
    for name in RIVALS.iter().chain(&["kernel", "after-tasks-trace-gp", "advise", "map-perf"]) {
        for (text, what) in [(page, "page"), (&csv, "csv"), (&md, "md"), (&cmp, "cmp")] {
            assert!(text.contains(name), "{name} is missing in {what}: {text}");
        }
    }
    let list = said(&["list"]);
    assert!(list.contains("htab-mem") && list.contains("advise"), "{list}");
}

/// Returns the observations of the probe, and the output of the browser.
fn looked_at(browser: &Path, directory: &Path, page: &str, is_dark: bool) -> (Vec<Value>, String) {
    let quoted = page.replace('&', "&amp;").replace('"', "&quot;");
    let frames = WIDTHS.map(|width| {
        format!(
            "<iframe style=\"width:{width}px;height:900px;border:0\" srcdoc=\"{quoted}\"></iframe>"
        )
    });
    let wrapper = directory.join("wrapper.html");
    let style = "<style>:root{color-scheme:light dark}</style>";
    let text = format!(
        "<!DOCTYPE html><meta charset=utf-8>{style}<script>{PROBE}</script>{}",
        frames.concat()
    );
    std::fs::write(&wrapper, text).unwrap();
    let scheme = if is_dark { "0" } else { "1" };
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .args(["--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000"])
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("--user-data-dir={}", directory.join("profile").display()))
        .arg(format!("file://{}", wrapper.display()))
        .output()
        .unwrap();
    let (dom, said) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let seen = dom.split("<pre id=\"seen\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let seen = seen.unwrap_or_else(|| panic!("{} showed nothing: {said}", browser.display()));
    let seen = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    (serde_json::from_str(&seen).unwrap(), said.into_owned())
}

#[test]
fn a_report_fits_every_window_in_light_and_dark_without_console_messages() {
    let Some(browser) = chromium() else {
        let missing = "headless Chromium is missing: install the package chromium, or name the \
                       program in CHROMIUM";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("not tested: {missing}");
        return;
    };
    let [_, page] = &*REPORT;
    let directory = tempfile::tempdir().unwrap();
    for is_dark in [false, true] {
        let (seen, said) = looked_at(&browser, directory.path(), page, is_dark);
        assert!(!said.contains(":CONSOLE"), "{said}");
        assert_eq!(seen.len(), 2 * WIDTHS.len());
        for (one, width) in seen.iter().zip(WIDTHS.iter().flat_map(|width| [width; 2])) {
            assert_eq!((&one["width"], &one["dark"]), (&(*width).into(), &is_dark.into()), "{one}");
            assert!(one["scroll"].as_u64().unwrap() <= *width, "wider than the window: {one}");
            assert_eq!(one["outside"].as_array().unwrap().len(), 0, "{one}");
            assert!(one["contrast"].as_f64().unwrap() >= CONTRAST, "{one}");
            assert!(one["smallest"].as_f64().unwrap() >= 8.0, "text too small to read: {one}");
            let (sections, drawings) = (&one["sections"], one["drawings"].as_u64().unwrap());
            assert!(sections == 11 && drawings > 15, "{one}");
        }
        let paper = numbers(seen[0]["paper"].as_str().unwrap());
        assert_eq!(paper.iter().all(|&channel| channel < 64.0), is_dark, "{paper:?}");
    }
}

/// "rgb(20, 23, 27)".
fn numbers(colour: &str) -> Vec<f64> {
    let digits =
        colour.trim_start_matches(|char: char| !char.is_ascii_digit()).trim_end_matches(')');
    digits.split(',').map(|number| number.trim().parse().unwrap()).collect()
}
