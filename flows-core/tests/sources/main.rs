//! What the sources must not do, found by reading them: with Burn 0.21 here, and with one another in `arrows`.
//!
//! The gradient of a tensor divided by a number is taken through f32, whatever the type of the tensor: by `/`, and
//! inside Burn's own functions that divide. And gradients are lost where two threads take some.

mod arrows;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, Pat, Type};

/// Folders and files whose tensors carry gradients.
const SOURCES: [&str; 10] = [
    "flows-core/src",
    "flows-train/src",
    "flows-models/src",
    "flows-experiments/src/runner",
    "flows-experiments/src/graph",
    "flows-experiments/src/regularization",
    "flows-tables/src/table_flow",
    "flows-experiments/src/targets/energy.rs",
    "flows-experiments/src/toy",
    "flows-experiments/src/vae",
];

/// Functions of Burn that divide by a number.
const DIVIDING: [&str; 6] = [
    "div_scalar",
    "var",
    "var_bias",
    "var_mean",
    "var_mean_bias",
    "softplus",
];

/// Methods of a tensor that give none.
const LEAVING: [&str; 7] = [
    "device",
    "dims",
    "dtype",
    "into_data",
    "into_scalar",
    "len",
    "to_data",
];

/// Fields and functions by name: whether some, and whether all that are called so are tensors, or give one.
#[derive(Default)]
struct Declared(HashMap<String, [bool; 2]>);

impl Declared {
    fn add(&mut self, name: &syn::Ident, tensor: bool) {
        let [some, all] = self.0.entry(name.to_string()).or_insert([false, true]);
        (*some, *all) = (*some || tensor, *all && tensor);
    }

    fn is_tensor(&self, name: &syn::Ident, certainty: Certainty) -> bool {
        self.0
            .get(&name.to_string())
            .is_some_and(|known| known[certainty as usize])
    }
}

/// How sure to be that an expression is a tensor.
#[derive(Clone, Copy)]
enum Certainty {
    Possible,
    Sure,
}

impl Visit<'_> for Declared {
    fn visit_field(&mut self, field: &syn::Field) {
        if let Some(name) = &field.ident {
            self.add(name, is_tensor_type(&field.ty));
        }
    }

    fn visit_signature(&mut self, signature: &syn::Signature) {
        let gives = matches!(&signature.output, syn::ReturnType::Type(_, ty) if is_tensor_type(ty));
        self.add(&signature.ident, gives);
    }
}

/// `Tensor<..>` or `Param<Tensor<..>>`, behind a reference or not, or several of them.
fn is_tensor_type(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => is_tensor_type(&reference.elem),
        Type::Array(array) => is_tensor_type(&array.elem),
        Type::Tuple(tuple) => !tuple.elems.is_empty() && tuple.elems.iter().all(is_tensor_type),
        Type::Path(path) => {
            let last = path.path.segments.last();
            last.is_some_and(|last| last.ident == "Tensor" || last.ident == "Param")
        }
        _ => false,
    }
}

/// Walks through a file with the variables known to be tensors.
struct Search<'a> {
    declared: &'a Declared,
    tensors: HashSet<String>,
    /// All others.
    others: HashSet<String>,
    lines: Vec<usize>,
}

impl Search<'_> {
    fn is_tensor(&self, expr: &Expr, certainty: Certainty) -> bool {
        let again = |expr: &Expr| self.is_tensor(expr, certainty);
        match expr {
            Expr::Path(path) => path
                .path
                .get_ident()
                .is_some_and(|name| self.tensors.contains(&name.to_string())),
            // Numbers are copied.
            Expr::MethodCall(call) if call.method == "clone" => true,
            Expr::MethodCall(call) if LEAVING.contains(&call.method.to_string().as_str()) => false,
            Expr::MethodCall(call) => {
                again(&call.receiver) || self.declared.is_tensor(&call.method, certainty)
            }
            Expr::Call(call) => match &*call.func {
                Expr::Path(path)
                    if path
                        .path
                        .get_ident()
                        .is_some_and(|name| self.others.contains(&name.to_string())) =>
                {
                    false
                }
                Expr::Path(path) => {
                    let mut parts = path.path.segments.iter().map(|part| &part.ident);
                    parts.any(|part| part == "Tensor" || self.declared.is_tensor(part, certainty))
                }
                _ => false,
            },
            Expr::Field(field) => match &field.member {
                syn::Member::Named(name) => self.declared.is_tensor(name, certainty),
                syn::Member::Unnamed(_) => false,
            },
            Expr::Binary(binary) => again(&binary.left) || again(&binary.right),
            Expr::Paren(inner) => again(&inner.expr),
            Expr::Reference(inner) => again(&inner.expr),
            Expr::Unary(inner) => again(&inner.expr),
            _ => false,
        }
    }

    /// Takes note of the variables of a pattern, from its type or from the value it is bound to.
    fn bind(&mut self, pattern: &Pat, value: Option<&Expr>, tensor: bool) {
        match (pattern, value) {
            (Pat::Type(typed), value) => {
                self.bind(&typed.pat, value, tensor || is_tensor_type(&typed.ty))
            }
            (Pat::Tuple(names), Some(Expr::Tuple(values))) => {
                for (name, value) in names.elems.iter().zip(&values.elems) {
                    self.bind(name, Some(value), self.is_tensor(value, Certainty::Sure));
                }
            }
            (Pat::Tuple(names), _) => names
                .elems
                .iter()
                .for_each(|name| self.bind(name, None, tensor)),
            (Pat::Slice(names), _) => names
                .elems
                .iter()
                .for_each(|name| self.bind(name, None, tensor)),
            (Pat::Ident(name), _) => {
                let name = name.ident.to_string();
                let (into, out_of) = match tensor {
                    true => (&mut self.tensors, &mut self.others),
                    false => (&mut self.others, &mut self.tensors),
                };
                out_of.remove(&name);
                into.insert(name);
            }
            _ => {}
        }
    }
}

impl<'ast> Visit<'ast> for Search<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let tests = matches!(item, syn::Item::Mod(module) if module.ident == "tests");
        if !tests {
            visit::visit_item(self, item);
        }
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.tensors.clear();
        self.others.clear();
        for input in &signature.inputs {
            if let syn::FnArg::Typed(typed) = input {
                self.bind(&Pat::Type(typed.clone()), None, false);
            }
        }
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        closure
            .inputs
            .iter()
            .for_each(|input| self.bind(input, None, false));
        visit::visit_expr_closure(self, closure);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        visit::visit_local(self, local);
        let value = local.init.as_ref().map(|init| &*init.expr);
        let tensor = value.is_some_and(|value| self.is_tensor(value, Certainty::Sure));
        self.bind(&local.pat, value, tensor);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        let divides = matches!(binary.op, BinOp::Div(_) | BinOp::DivAssign(_));
        let a_tensor = self.is_tensor(&binary.left, Certainty::Sure);
        if divides && a_tensor && !self.is_tensor(&binary.right, Certainty::Possible) {
            self.lines.push(binary.op.span().start().line);
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if DIVIDING.contains(&call.method.to_string().as_str()) {
            self.lines.push(call.method.span().start().line);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let parts: Vec<String> = path
            .path
            .segments
            .iter()
            .map(|part| part.ident.to_string())
            .collect();
        if parts.len() > 1 && parts[parts.len() - 2..] == ["activation", "softplus"] {
            self.lines.push(path.span().start().line);
        }
    }
}

/// Lines of `file` with a tensor divided by a number.
fn divisions(file: &syn::File, declared: &Declared) -> Vec<usize> {
    let mut search = Search {
        declared,
        tensors: HashSet::new(),
        others: HashSet::new(),
        lines: Vec::new(),
    };
    search.visit_file(file);
    search.lines
}

/// The sources below `under`, or the file itself.
fn files(under: &Path, found: &mut Vec<PathBuf>) {
    if under.is_file() {
        found.push(under.to_owned());
        return;
    }
    let entries = fs::read_dir(under).unwrap_or_else(|e| panic!("{}: {e}", under.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() || path.extension().is_some_and(|e| e == "rs") {
            files(&path, found);
        }
    }
}

#[test]
fn no_tensor_is_divided_by_a_number() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = Vec::new();
    SOURCES
        .iter()
        .for_each(|part| files(&root.join(part), &mut paths));
    let parse = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a source");
        syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let parsed: Vec<syn::File> = paths.iter().map(parse).collect();
    let mut declared = Declared::default();
    parsed.iter().for_each(|file| declared.visit_file(file));
    let mut found = Vec::new();
    for (path, file) in paths.iter().zip(&parsed) {
        let path = path.strip_prefix(&root).expect("below the root").display();
        found.extend(
            divisions(file, &declared)
                .iter()
                .map(|line| format!("{path}:{line}")),
        );
    }
    assert!(
        found.is_empty(),
        "a tensor divided by a number has its gradient taken through f32; multiply by the reciprocal: {found:#?}"
    );
}

#[test]
fn divisions_are_found_and_those_of_numbers_and_by_tensors_are_not() {
    let lines = |text: &str| {
        let file = syn::parse_file(text).expect("Rust");
        let mut declared = Declared::default();
        declared.visit_file(&file);
        divisions(&file, &declared)
    };
    let found = "struct Normal<B> { mean: Tensor<B, 1>, std: f64 }
        fn step<B: Backend>(v: Tensor<B, 2>, n: usize) -> Tensor<B, 2> {
            let half = v.clone() / 2.0;
            let (a, b) = (v.square(), 3.0);
            let c = (a - half) / b + a.var(1);
            states.push(velocity(n).clone() / n as f64);
            step(c, n) / b;
            self.mean.clone() / self.std
        }";
    assert_eq!(lines(found), [3, 5, 5, 6, 7, 8]);
    let fine = "fn step<B: Backend>(v: Tensor<B, 2>, n: usize) -> Tensor<B, 2> {
            let rows = v.dims()[0] / n;
            let scale = v.clone().abs();
            let (mean, share) = (1.0 / n as f64, rows / 2);
            v.clone() / scale.sum_dim(1) * (mean / 2.0)
        }";
    assert_eq!(lines(fine), []);
}

#[test]
fn who_takes_gradients_keeps_other_threads_waiting() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = Vec::new();
    for part in [
        "README.md",
        "benches/src",
        "docs/getting-started.md",
        "docs/training-loop.md",
        "examples/own-layer/src",
        "flows-experiments/examples",
        "flows-experiments/src",
    ] {
        files(&root.join(part), &mut paths);
    }
    let (mut with, mut without) = (0, Vec::new());
    for path in paths {
        let text = fs::read_to_string(&path).expect("a source");
        match (text.contains(".backward()"), text.contains("exclusive()")) {
            (true, true) => with += 1,
            (true, false) => without.push(path),
            (false, _) => {}
        }
    }
    assert!(
        with > 0 && without.is_empty(),
        "`backward()` without `exclusive()`: {without:#?}"
    );
}

#[test]
fn seeds_do_not_depend_on_what_rand_may_change() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = Vec::new();
    for part in [
        "flows-core/src",
        "flows-train/src",
        "flows-models/src",
        "flows-tables/src/table_flow",
    ] {
        files(&root.join(part), &mut paths);
    }
    let mut found = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a source");
        let own = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = path
            .components()
            .any(|part| part.as_os_str() == "testing" || part.as_os_str() == "tests.rs");
        let mut lines = own
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        if !is_test && lines.any(|line| line.contains("StdRng") || line.contains(".shuffle(")) {
            found.push(path);
        }
    }
    assert!(
        found.is_empty(),
        "rand does not keep these stable: {found:#?}"
    );
}

#[test]
fn no_package_includes_a_file_outside_of_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut outside = Vec::new();
    for package in [
        "flows-kernels",
        "flows-core",
        "flows-train",
        "flows-models",
        "flows-tables",
        "flows-experiments",
    ] {
        let mut paths = Vec::new();
        files(&root.join(package).join("src"), &mut paths);
        for path in paths {
            let text = fs::read_to_string(&path).expect("a source");
            // Folders between the file and its package.
            let depth = path
                .strip_prefix(root.join(package))
                .expect("below it")
                .components()
                .count()
                - 1;
            for include in text.split("include_").skip(1) {
                let Some((call, rest)) = include.split_once("!(\"") else {
                    continue;
                };
                let file = rest.split('"').next().unwrap_or_default();
                if ["str", "bytes"].contains(&call) && file.matches("../").count() > depth {
                    outside.push(format!("{}: {file}", path.display()));
                }
            }
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
}
