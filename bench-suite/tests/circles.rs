//! Inside a crate imports lead one way: to lower layers, and inside a layer without circles, except
//! for those that `ARCHITECTURE.md` names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders of sources that are crates of their own.
const CRATES: [&str; 6] = [
    "memalloc/src",
    "qptrie/src",
    "bench-suite/src",
    "bench-suite/hash_table/src",
    "bench-suite/scaling/src",
    "bench-suite/src/bin/verification",
];

/// The names of a module and of those that it is in.
type Module = Vec<String>;

/// A path of a `use`, or in code: its segments.
type Import = Vec<String>;

/// A source file.
struct File {
    name: String,
    /// Its code, without comments and without its tests.
    code: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// The modules of the crate in `folder`.
fn modules(folder: &str) -> BTreeMap<Module, File> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(inside) = folders.pop() {
        for entry in fs::read_dir(root().join(&inside)).expect("a folder of sources") {
            let path = entry.expect("a directory entry").path();
            let name = format!("{inside}/{}", path.file_name().expect("a name").display());
            if path.is_dir() {
                if !CRATES.contains(&name.as_str()) {
                    folders.push(name);
                }
                continue;
            }
            let Some(place) = name.strip_suffix(".rs") else { continue };
            let place = place.strip_prefix(folder).expect("below the folder");
            let mut module: Module =
                place.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
            module.pop_if(|last| ["lib", "main", "mod"].contains(&last.as_str()));
            let text = fs::read_to_string(&path).expect("a text file");
            let lines = text.lines().take_while(|line| *line != "mod tests {");
            let code: Vec<_> =
                lines.map(|line| line.split("//").next().expect("a first part")).collect();
            found.insert(module, File { name, code: code.join("\n") });
        }
    }
    found
}

/// Splits a tree of imports (`a::{b, c::d}`) into its paths.
fn expand(tree: &str, prefix: &[String], paths: &mut Vec<Import>) {
    let tree = tree.trim();
    let split = tree.find(['{', ':']);
    match split {
        Some(at) if tree[at..].starts_with('{') => {
            let inside = tree[at + 1..].trim_end().trim_end_matches('}');
            let (mut depth, mut begin) = (0, 0);
            for (place, letter) in inside.char_indices() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        expand(&inside[begin..place], prefix, paths);
                        begin = place + 1;
                    }
                    _ => {}
                }
            }
            // A brace of the inner tree that was trimmed with the outer one.
            let rest = &inside[begin..];
            let missing = rest.matches('{').count() - rest.matches('}').count();
            expand(&format!("{rest}{}", "}".repeat(missing)), prefix, paths);
        }
        Some(at) => {
            let mut longer = prefix.to_vec();
            longer.push(tree[..at].to_owned());
            expand(tree[at..].trim_start_matches(':'), &longer, paths);
        }
        None if tree.is_empty() => {}
        None => {
            let name = tree.split(" as ").next().expect("a first part");
            paths.push(prefix.iter().cloned().chain([name.to_owned()]).collect());
        }
    }
}

/// The imports of a file, and whether each is made public again.
fn imports(code: &str) -> Vec<(Import, bool)> {
    let mut all = Vec::new();
    for statement in code.split(';') {
        let Some(at) = statement.find("use ").filter(|&at| {
            let before = statement[..at].trim_end();
            let line = before.rsplit('\n').next().expect("a last part").trim_start();
            statement[..at].ends_with(char::is_whitespace) || at == 0 || line.starts_with("pub")
        }) else {
            continue;
        };
        let is_public =
            statement[..at].rsplit('\n').next().is_some_and(|line| line.contains("pub"));
        let mut paths = Vec::new();
        expand(&statement[at + "use ".len()..], &[], &mut paths);
        all.extend(paths.into_iter().map(|path| (path, is_public)));
    }
    // Paths in code.
    for begin in ["crate::", "super::"] {
        for (at, _) in code.match_indices(begin) {
            let is_end = |letter: char| !letter.is_alphanumeric() && !"_:".contains(letter);
            let path = code[at..].split(is_end).next().expect("a first part");
            let path = path.split("::").filter(|part| !part.is_empty());
            all.push((path.map(str::to_owned).collect(), false));
        }
    }
    all
}

/// Finds the modules that imports lead to.
struct Resolver<'a> {
    modules: &'a BTreeMap<Module, File>,
    /// The names that modules make public again, and their paths.
    exports: BTreeMap<(Module, String), Import>,
}

impl Resolver<'_> {
    /// The module of the item that `import` names in `from`; `None` if it is of another crate.
    fn module_of(&self, from: &Module, import: &[String]) -> Option<Module> {
        let mut at = from.clone();
        let mut rest = import;
        match rest.first()?.as_str() {
            "crate" => at.clear(),
            "super" => _ = at.pop(),
            "self" => {}
            child if self.modules.contains_key(&[&at[..], &[child.to_owned()]].concat()) => {
                at.push(child.to_owned());
            }
            _ => return None,
        }
        rest = &rest[1..];
        while let Some(next) = rest.first() {
            let inside = [&at[..], std::slice::from_ref(next)].concat();
            if next == "super" {
                at.pop();
            } else if self.modules.contains_key(&inside) {
                at = inside;
            } else if let Some(path) = self.exports.get(&(at.clone(), next.clone())) {
                return self.module_of(&at, path).or(Some(at));
            } else {
                break;
            }
            rest = &rest[1..];
        }
        Some(at)
    }
}

/// The modules that each module of a crate imports from.
fn targets(modules: &BTreeMap<Module, File>) -> BTreeMap<&Module, BTreeSet<Module>> {
    let imports: BTreeMap<_, _> =
        modules.iter().map(|(module, file)| (module, imports(&file.code))).collect();
    let mut exports = BTreeMap::new();
    for (&module, imports) in &imports {
        for (path, _) in imports.iter().filter(|(_, is_public)| *is_public) {
            let name = path.last().expect("a name").clone();
            exports.insert((module.clone(), name), path.clone());
        }
    }
    let resolver = Resolver { modules, exports };
    let mut all = BTreeMap::new();
    for (&module, imports) in &imports {
        let plain = imports.iter().filter(|(_, is_public)| !is_public);
        let targets = plain.filter_map(|(path, _)| resolver.module_of(module, path));
        // A `mod.rs` defines what the files of its folder share.
        all.insert(module, targets.filter(|target| !module.starts_with(target)).collect());
    }
    all
}

/// The groups of files of a crate that import one another.
fn circles(folder: &str) -> BTreeSet<BTreeSet<String>> {
    let modules = modules(folder);
    // The modules that each module reaches.
    let mut reached = targets(&modules);
    loop {
        let before: usize = reached.values().map(BTreeSet::len).sum();
        for module in modules.keys() {
            let further: Vec<_> = reached[module].iter().flat_map(|next| &reached[next]).collect();
            let further: Vec<Module> = further.into_iter().cloned().collect();
            reached.get_mut(module).expect("it is there").extend(further);
        }
        if reached.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let in_circles = modules.keys().filter(|&module| reached[module].contains(module));
    in_circles
        .map(|module| {
            let others = reached[module].iter().filter(|other| reached[other].contains(module));
            others.map(|other| modules[other].name.clone()).collect()
        })
        .collect()
}

fn architecture() -> String {
    fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the document")
}

/// The modules of a crate's table in `ARCHITECTURE.md`, and the number of the row of each: that of
/// its layer, from the lowest.
fn layers(folder: &str) -> BTreeMap<String, usize> {
    let text = architecture();
    let head = format!("| `{folder}` |");
    let table = text.lines().skip_while(|line| !line.starts_with(&head)).skip(2);
    let mut layers = BTreeMap::new();
    for (number, row) in table.take_while(|line| line.starts_with('|')).enumerate() {
        let names = row.split('|').nth(1).expect("a first column");
        layers.extend(names.split('`').skip(1).step_by(2).map(|name| (name.to_owned(), number)));
    }
    layers
}

/// The circles that `ARCHITECTURE.md` names.
fn named() -> BTreeSet<BTreeSet<String>> {
    let text = architecture();
    let (_, text) = text.split_once("### Circles").expect("the section");
    let (text, _) = text.split_once("\n## ").expect("another section");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let files = row.split('|').nth(1).expect("a first column");
        let mut names = files.split('`').skip(1).step_by(2);
        let folder = names.next().expect("a folder");
        names.map(|name| format!("{folder}/{name}.rs")).collect()
    })
    .collect()
}

#[test]
fn every_circle_of_imports_is_named_with_its_reason() {
    let found: BTreeSet<_> = CRATES.iter().flat_map(|folder| circles(folder)).collect();
    let named = named();
    assert!(found.len() <= 3, "{found:#?}");
    assert_eq!(found, named, "left: found, right: named in docs/ARCHITECTURE.md");
}

#[test]
fn every_file_imports_from_lower_layers_and_its_own() {
    // Pages of the documentation, which nothing imports.
    let unlisted = ["guide"];
    let (mut seen, mut upwards) = (0, Vec::new());
    for folder in &CRATES[..3] {
        let (modules, layers) = (modules(folder), layers(folder));
        let layer = |module: &Module| {
            let name = module.first().filter(|name| !unlisted.contains(&name.as_str()))?;
            Some(layers.get(name).unwrap_or_else(|| panic!("{folder}/{name} is in no row")))
        };
        for (module, targets) in targets(&modules) {
            let Some(own) = layer(module) else { continue };
            for target in targets {
                seen += 1;
                if layer(&target).is_some_and(|other| other > own) {
                    upwards.push(format!("{} imports {}", modules[module].name, target.join("::")));
                }
            }
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
    assert!(seen > 300, "{seen} are not all");
}
