//! Who may name whom: the files of flows-core form layers, and no circle.
//!
//! Every path that a file names outside its tests is followed to the file that defines the item. `mod.rs`, `lib.rs` and
//! `prelude.rs` that define nothing only forward.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Item, UseTree};

use crate::files;

/// The layers of flows-core, lowest first: the beginnings of paths below `src`. A file may name files of its own layer
/// and of those before it. The longest beginning that fits counts.
const ORDER: &[&[&str]] = &[
    &[
        "error",
        "autodiff",
        "domain",
        "expand",
        "magnitude",
        "random",
        "one_key",
        "visit",
    ],
    &["masks/", "linalg/", "init", "softplus"],
    &["bijector", "solve", "state"],
    &[
        "fused/plan",
        "fused/switch",
        "fused/host",
        "fused/split",
        "fused/operation",
        "fused/tanh",
    ],
    &["nn/"],
    &["transforms/", "conditioners/"],
    &["fused/"],
    &["adam"],
    &["bijectors/", "continuous/"],
    &["compose/"],
    &["distributions/"],
    &["flow"],
    &["base"],
    &["testing/"],
    &["compiled"],
];

/// A module: where it stands, what it defines, and what it forwards.
#[derive(Default)]
struct Module {
    file: String,
    items: BTreeSet<String>,
    children: BTreeSet<String>,
    /// Name here -> path, as written.
    forwards: Vec<(Option<String>, Vec<String>)>,
}

type Modules = BTreeMap<Vec<String>, Module>;

/// A path that a file names, from the module in which it does.
struct Named {
    from: Vec<String>,
    path: Vec<String>,
}

/// Whether it is there only for tests or for links of the documentation.
fn is_aside(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("cfg")
            && matches!(&a.meta, syn::Meta::List(list)
                if ["test", "doc"].contains(&list.tokens.to_string().as_str()))
    })
}

/// Every leaf of a `use`: the name it has here, `None` for all, and its path.
fn leaves(tree: &UseTree, before: &[String], found: &mut Vec<(Option<String>, Vec<String>)>) {
    let with = |name: &syn::Ident| {
        let mut path = before.to_vec();
        path.push(name.to_string());
        path
    };
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &with(&path.ident), found),
        UseTree::Name(name) if name.ident == "self" => {
            found.push((before.last().cloned(), before.to_vec()));
        }
        UseTree::Name(name) => found.push((Some(name.ident.to_string()), with(&name.ident))),
        UseTree::Rename(rename) => {
            found.push((Some(rename.rename.to_string()), with(&rename.ident)));
        }
        UseTree::Glob(_) => found.push((None, before.to_vec())),
        UseTree::Group(group) => group.items.iter().for_each(|t| leaves(t, before, found)),
    }
}

/// Reads one file: what its modules define, and which paths they name.
struct Reader<'a> {
    at: Vec<String>,
    file: &'a str,
    modules: &'a mut Modules,
    named: Vec<Named>,
}

impl Reader<'_> {
    fn module(&mut self) -> &mut Module {
        self.modules.entry(self.at.clone()).or_default()
    }

    fn defines(&mut self, name: &syn::Ident) {
        self.module().items.insert(name.to_string());
    }
}

impl Visit<'_> for Reader<'_> {
    fn visit_item(&mut self, item: &Item) {
        let attributes = match item {
            Item::Mod(i) => &i.attrs,
            Item::Use(i) => &i.attrs,
            Item::Fn(i) => &i.attrs,
            Item::Impl(i) => &i.attrs,
            Item::Struct(i) => &i.attrs,
            Item::Const(i) => &i.attrs,
            _ => &Vec::new(),
        };
        if is_aside(attributes) {
            return;
        }
        match item {
            Item::Mod(module) => {
                self.module().children.insert(module.ident.to_string());
                if let Some((_, items)) = &module.content {
                    self.at.push(module.ident.to_string());
                    self.module().file = self.file.to_owned();
                    items.iter().for_each(|item| self.visit_item(item));
                    self.at.pop();
                }
                return;
            }
            Item::Use(uses) => {
                let mut found = Vec::new();
                leaves(&uses.tree, &[], &mut found);
                let public = !matches!(uses.vis, syn::Visibility::Inherited);
                for (name, path) in found {
                    // What is only forwarded is followed by whoever asks for it.
                    if !public {
                        self.named.push(Named {
                            from: self.at.clone(),
                            path: path.clone(),
                        });
                    }
                    if public || name.is_some() {
                        self.module().forwards.push((name, path));
                    }
                }
                return;
            }
            Item::Fn(i) => self.defines(&i.sig.ident),
            Item::Struct(i) => self.defines(&i.ident),
            Item::Enum(i) => self.defines(&i.ident),
            Item::Trait(i) => self.defines(&i.ident),
            Item::Type(i) => self.defines(&i.ident),
            Item::Const(i) => self.defines(&i.ident),
            Item::Static(i) => self.defines(&i.ident),
            Item::Macro(i) => {
                // A macro's enums are named by the first identifiers after `enum`.
                let text = i.mac.tokens.to_string();
                let mut words = text.split_whitespace();
                while let Some(word) = words.next() {
                    if word == "enum"
                        && let Some(name) = words.next()
                    {
                        self.module().items.insert(name.to_owned());
                    }
                }
                if let Some(name) = &i.ident {
                    self.defines(name);
                }
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        // Not `pub(super)`, and not the receiver `self`.
        if !["self", "super", "crate"].contains(&segments[segments.len() - 1].as_str()) {
            self.named.push(Named {
                from: self.at.clone(),
                path: segments,
            });
        }
        visit::visit_path(self, path);
    }
}

/// The file that defines what `path` names inside `from`; empty for what is of another crate, `None` for a local name.
fn resolve(modules: &Modules, from: &[String], path: &[String], depth: usize) -> Option<String> {
    let (first, mut rest) = path.split_first()?;
    let mut at = from.to_vec();
    match first.as_str() {
        "crate" => at.clear(),
        "self" => {}
        "super" => {
            at.pop();
            while rest.first().is_some_and(|s| s == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        _ => rest = path,
    }
    let mut last = modules.get(&at)?;
    while let Some((name, more)) = rest.split_first() {
        if last.children.contains(name) {
            at.push(name.clone());
            last = modules.get(&at)?;
            rest = more;
            continue;
        }
        if last.items.contains(name) {
            return Some(last.file.clone());
        }
        if depth == 0 {
            return None;
        }
        return last.forwards.iter().find_map(|(here, path)| {
            let whole = match here {
                Some(here) if here == name => [path, more].concat(),
                Some(_) => return None,
                None => [path, rest].concat(),
            };
            // A name that forwards to itself, or nowhere here, is of another crate.
            let outside = here.is_some().then(String::new);
            match whole == rest && at == from {
                true => outside,
                false => resolve(modules, &at, &whole, depth - 1).or(outside),
            }
        });
    }
    Some(last.file.clone())
}

/// From each file to the files that define what it names.
///
/// Paths inside the crate that could not be followed are added to `lost`.
fn arrows(
    sources: &[(String, String)],
    lost: &mut Vec<String>,
) -> BTreeMap<String, BTreeSet<String>> {
    let (mut modules, mut named) = (Modules::new(), HashMap::<String, Vec<Named>>::new());
    for (name, text) in sources {
        let parsed = syn::parse_file(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let stem = name.trim_end_matches(".rs").trim_end_matches("/mod");
        let at = match stem {
            "lib" => Vec::new(),
            stem => stem.split('/').map(str::to_owned).collect(),
        };
        let mut reader = Reader {
            at,
            file: name,
            modules: &mut modules,
            named: Vec::new(),
        };
        reader.module().file = name.clone();
        parsed.items.iter().for_each(|item| reader.visit_item(item));
        named.insert(name.clone(), reader.named);
    }
    let forwards_only = |file: &str| {
        let own = modules.values().filter(|m| m.file == file);
        own.map(|m| m.items.len()).sum::<usize>() == 0
    };
    let mut arrows = BTreeMap::<String, BTreeSet<String>>::new();
    for (file, named) in &named {
        let to = arrows.entry(file.clone()).or_default();
        if forwards_only(file) {
            continue;
        }
        for Named { from, path } in named {
            let found = resolve(&modules, from, path, 6);
            if found.is_none() && ["crate", "super", "self"].contains(&path[0].as_str()) {
                lost.push(format!(
                    "{file} names {}, which is nowhere",
                    path.join("::")
                ));
            }
            to.extend(found.filter(|to| !to.is_empty() && to != file && !forwards_only(to)));
        }
    }
    arrows
}

/// The place of a file in [`ORDER`].
fn place(file: &str) -> Option<usize> {
    let fits = |start: &str| {
        let rest = file.strip_prefix(start)?;
        (start.ends_with('/') || rest.starts_with(['.', '/'])).then_some(start.len())
    };
    let places = ORDER.iter().enumerate().flat_map(|(k, layer)| {
        layer
            .iter()
            .filter_map(move |start| fits(start).map(|len| (len, k)))
    });
    places.max().map(|(_, place)| place)
}

/// Every set of files each of which leads to each other.
fn circles(arrows: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached = |from: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            for to in arrows.get(file).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    open.push(to);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&String, BTreeSet<String>> =
        arrows.keys().map(|f| (f, reached(f))).collect();
    let mut found = BTreeSet::new();
    for (file, to) in &reach {
        if to.contains(*file) {
            let back = to
                .iter()
                .filter(|t| reach.get(t).is_some_and(|r| r.contains(*file)));
            found.insert(back.cloned().collect::<Vec<_>>());
        }
    }
    found.into_iter().collect()
}

/// Paths that lead nowhere, arrows against [`ORDER`], files without a place, and circles.
fn faults(sources: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    let arrows = arrows(sources, &mut faults);
    for (from, all) in &arrows {
        match place(from) {
            None if !["lib.rs", "prelude.rs"].contains(&from.as_str()) => {
                faults.push(format!("{from} has no place in the order"));
            }
            Some(place_of_from) => {
                let up = all
                    .iter()
                    .filter(|to| place(to).is_some_and(|p| p > place_of_from));
                faults.extend(up.map(|to| format!("{from} names {to}, which is above it")));
            }
            None => {}
        }
    }
    faults.extend(
        circles(&arrows)
            .iter()
            .map(|files| format!("a circle: {}", files.join(", "))),
    );
    faults
}

fn core_sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    let named = paths.iter().filter(|path| !path.ends_with("tests.rs"));
    let read = named.map(|path| {
        let name = path
            .strip_prefix(&root)
            .expect("below src")
            .display()
            .to_string();
        (
            name.replace('\\', "/"),
            std::fs::read_to_string(path).expect("a source"),
        )
    });
    read.collect()
}

#[test]
fn arrows_between_files_point_one_way() {
    let faults = faults(&core_sources());
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_planted_arrow_is_found() {
    let planted = |file: &str, line: &str| {
        let mut sources = core_sources();
        let (_, text) = sources
            .iter_mut()
            .find(|(name, _)| name == file)
            .expect(file);
        text.push_str(line);
        faults(&sources).join("\n")
    };
    let up = planted("nn/mlp.rs", "\nuse crate::bijectors::Planar as _Planted;\n");
    assert!(
        up.contains("nn/mlp.rs names bijectors/planar.rs, which is above it"),
        "{up}"
    );
    let path = "\nfn planted(_: crate::bijectors::sylvester::SylvesterConfig) {}\n";
    let circle = planted("bijectors/planar.rs", path);
    let back = "\nuse super::planar::PlanarConfig as _Planted;\n";
    let mut sources = core_sources();
    for (file, line) in [
        ("bijectors/planar.rs", path),
        ("bijectors/sylvester.rs", back),
    ] {
        let (_, text) = sources
            .iter_mut()
            .find(|(name, _)| name == file)
            .expect(file);
        text.push_str(line);
    }
    assert!(circle.is_empty(), "{circle}");
    assert!(faults(&sources).join("\n").contains("a circle: "));
}
