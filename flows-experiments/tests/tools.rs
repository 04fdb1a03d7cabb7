//! `flows` as a user runs it: a table in, a model, densities, samples and pictures out.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use assert_cmd::Command;
use burn_ndarray::NdArray;
use flows_tables::table_flow::TableFlow;
use flows_tables::{Format, Reading, Rows, Sink, Source};
use predicates::prelude::*;
use predicates::str::contains;
use rand::{RngExt, SeedableRng, rngs::StdRng};

mod interruptions;

use interruptions::run_with_interruptions;

fn flows() -> Command {
    Command::cargo_bin("flows").unwrap()
}

/// `rows` rows of a bent, conditional distribution: b lies around a^2 + c.
fn table(rows: usize) -> Vec<[f64; 3]> {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let row = |_| {
        let (a, c) = (normal(), normal());
        [a, a * a + c + 0.3 * normal(), c]
    };
    (0..rows).map(row).collect()
}

fn csv(folder: &Path, rows: usize) -> PathBuf {
    let path = folder.join("data.csv");
    let lines = table(rows)
        .iter()
        .map(|[a, b, c]| format!("{a},{b},{c}\n"))
        .collect::<String>();
    fs::write(&path, format!("a,b,c\n{lines}")).unwrap();
    path
}

/// A short fit of a small model.
fn fit(data: &Path, model: &Path) -> Command {
    let mut command = flows();
    command
        .arg("fit")
        .arg(data)
        .arg("-o")
        .arg(model)
        .args(SHORT);
    command
}

const SHORT: [&str; 6] = ["--layers", "2", "--hidden", "16", "--steps", "120"];

fn numbers(path: &Path) -> (Option<Vec<String>>, Vec<f64>) {
    let mut source = Source::open(path, &Reading::default()).unwrap();
    let values = source.next_chunk(1 << 20).unwrap();
    (source.layout().names.clone(), values)
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

#[test]
fn a_table_is_fitted_scored_sampled_drawn_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let data = csv(folder.path(), 600);
    let model = at("data.flow");
    let done = fit(&data, &model).assert().success();
    done.stdout(contains("test log-likelihood").and(contains("a Gaussian has")))
        .stderr(contains("comma-separated, header: a, b, c"));
    assert!(!at("data.flow.checkpoint").exists());

    // What is there is not written over.
    let again = fit(&data, &model).assert().code(2);
    again.stderr(contains("exists; --force writes over it"));

    let info = flows().arg("info").arg(&model).assert().success();
    info.stdout(contains("a, b, c").and(contains("480 training, 60 validation, 60 test")));

    // In CSV and npy, by name and by place, in f32 and in f64, the scores are the same.
    let score = |data: &Path, out: &str, more: &[&str]| {
        let mut command = flows();
        command.arg("log-prob").arg(&model).arg(data);
        command.arg("-o").arg(at(out)).args(more).assert().success();
        numbers(&at(out)).1
    };
    let scores = score(&data, "scores.csv", &[]);
    assert_eq!(scores.len(), 600);
    let swapped = at("swapped.csv");
    let lines = table(600)
        .iter()
        .map(|[a, b, c]| format!("{c};{a};x;{b}\n"))
        .collect::<String>();
    fs::write(&swapped, format!("c;a;label;b\n{lines}")).unwrap();
    assert_eq!(score(&swapped, "swapped-scores.csv", &[]), scores);
    let doubles = score(&data, "scores.npy", &["--dtype", "f64"]);
    for (single, double) in scores.iter().zip(&doubles) {
        assert!((single - double).abs() < 1e-4, "{single} {double}");
    }

    // Another backend reads what this one wrote, and the other way round.
    let rows = Rows::new(table(600).concat(), 3);
    let other = TableFlow::<NdArray>::load(&model, &Default::default()).unwrap();
    let close = |ours: &[f64], theirs: &[f64]| {
        let largest = ours
            .iter()
            .zip(theirs)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(ours.len() == theirs.len() && largest < 1e-4, "{largest}");
    };
    close(&scores, &other.log_prob(&rows, None));
    other.save(&at("other.flow")).unwrap();
    let mut command = flows();
    command
        .arg("log-prob")
        .arg(at("other.flow"))
        .arg(&data)
        .arg("-o")
        .arg(at("back.csv"));
    command.assert().success();
    close(&scores, &numbers(&at("back.csv")).1);

    // Samples have the table's columns, depend on the seed alone, and can be scored.
    let sample = |out: &str, seed: &str| {
        let mut command = flows();
        command
            .arg("sample")
            .arg(&model)
            .args(["-n", "9000", "--seed", seed]);
        command.arg("-o").arg(at(out)).assert().success();
        numbers(&at(out))
    };
    let (names, samples) = sample("samples.csv", "1");
    assert_eq!(names.unwrap(), ["a", "b", "c"]);
    assert_eq!(samples.len(), 27_000);
    let (_, array) = sample("samples.npy", "1");
    let close = samples
        .iter()
        .zip(&array)
        .all(|(a, b)| (a - b).abs() < 1e-7);
    assert!(close, "text and array hold the same rows");
    assert_ne!(sample("other.npy", "2").1, array);
    let own = score(&at("samples.npy"), "own.npy", &[]);
    let mean = own.iter().sum::<f64>() / own.len() as f64;
    assert!(mean.is_finite());

    let picture = at("pairs.png");
    let mut plot = flows();
    plot.arg("plot")
        .arg(&model)
        .arg(&data)
        .arg("-o")
        .arg(&picture);
    plot.assert().success();
    assert!(fs::read(&picture).unwrap().starts_with(b"\x89PNG"));

    let mut check = flows();
    check.arg("check").arg(&model).arg(&data);
    check.args(["--permutations", "99"]);
    check
        .assert()
        .success()
        .stderr(contains("60 of the 60 test rows, held out"))
        .stdout(contains("p = "));
    // A table that is not the model's is told from its samples.
    let moved = at("moved.csv");
    let lines = table(600)
        .iter()
        .map(|[a, b, c]| format!("{},{b},{c}\n", a + 2.0))
        .collect::<String>();
    fs::write(&moved, format!("a,b,c\n{lines}")).unwrap();
    let mut check = flows();
    check.arg("check").arg(&model).arg(&moved);
    check.args(["--permutations", "99"]);
    check
        .assert()
        .success()
        .stdout(contains("p = 0.0100").and(contains("may differ")));
}

#[test]
fn a_conditional_flow_follows_its_context() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let data = csv(folder.path(), 600);
    let model = at("given.flow");
    let mut command = fit(&data, &model);
    command
        .args(["--context", "c", "--model", "realnvp"])
        // Few steps: larger ones than few rows get by default.
        .args(["--learning-rate", "0.002", "--batch", "256"])
        .assert()
        .success();
    let sample = |more: &[&str]| {
        let mut command = flows();
        command.arg("sample").arg(&model).arg("-o").arg(at("s.csv"));
        command.args(more).arg("--force").assert().success();
        numbers(&at("s.csv")).1
    };
    let mean_b = |rows: &[f64]| rows.chunks(3).map(|r| r[1]).sum::<f64>() / (rows.len() / 3) as f64;
    let low = sample(&["-n", "2000", "--context", "c=-1.5"]);
    let high = sample(&["-n", "2000", "--context", "c=1.5"]);
    assert!(low.chunks(3).all(|row| row[2] == -1.5));
    assert!(
        mean_b(&high) - mean_b(&low) > 1.5,
        "{} {}",
        mean_b(&high),
        mean_b(&low)
    );
    let each = sample(&["--context-from", data.to_str().unwrap(), "-n", "2"]);
    let contexts = each.chunks(6).map(|two| [two[2], two[5]]);
    assert!(contexts.eq(table(600).iter().map(|row| [row[2]; 2])));

    let mut without = flows();
    let refused = without.arg("sample").arg(&model).assert().code(2);
    refused.stderr(contains("needs a value of c: --context c=VALUE"));
    let mut check = flows();
    check
        .arg("check")
        .arg(&model)
        .arg(&data)
        .args(["--permutations", "19"]);
    check.assert().success();
}

#[test]
fn a_killed_fit_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let data = csv(folder.path(), 400);
    let whole = at("whole.flow");
    fit(&data, &whole).assert().success();

    let binary = assert_cmd::cargo::cargo_bin("flows");
    let cut = at("cut.flow");
    let checkpoint = at("cut.flow.checkpoint");
    run_with_interruptions(&checkpoint, || {
        let mut command = Process::new(&binary);
        command.arg("fit").arg(&data).arg("-o").arg(&cut);
        command.args(SHORT);
        command.args(["--checkpoint-seconds", "0"]);
        if checkpoint.exists() {
            command.arg("--resume");
        }
        command
    });
    let scores = |model: &Path| {
        let mut command = flows();
        let done = command
            .arg("log-prob")
            .arg(model)
            .arg(&data)
            .assert()
            .success();
        text(&done.get_output().stdout)
    };
    assert_eq!(scores(&whole), scores(&cut));

    // An unfinished fit is neither lost nor mistaken.
    fs::copy(&whole, at("cut.flow.checkpoint")).unwrap();
    fs::remove_file(&cut).unwrap();
    let refused = fit(&data, &cut).assert().code(2);
    refused.stderr(contains("an unfinished fit is in"));
    let refused = fit(&data, &cut).arg("--resume").assert().code(2);
    refused.stderr(contains("not a checkpoint of this program"));
}

#[test]
fn a_pipe_may_be_closed_early() {
    let folder = tempfile::tempdir().unwrap();
    let data = csv(folder.path(), 100);
    let model = folder.path().join("m.flow");
    fit(&data, &model).assert().success();
    let mut child = Process::new(assert_cmd::cargo::cargo_bin("flows"))
        .arg("sample")
        .arg(&model)
        .args(["-n", "1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "a,b,c");
    drop(lines);
    let status = child.wait().unwrap();
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(status.success() && !said.contains("error"), "{said}");

    // And one can be read from.
    let mut piped = flows();
    piped.arg("log-prob").arg(&model).arg("-");
    let done = piped.write_stdin("c,b,a\n0,1,1\n").assert().success();
    assert_eq!(text(&done.get_output().stdout).lines().count(), 2);
}

#[test]
fn bad_tables_and_options_are_answered_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let many = |row: &str| row.repeat(30);
    let cases: [(&str, String, &[&str], &str); 14] = [
        (
            "missing",
            "a,b\n1,2\n,3\n".to_owned(),
            &[],
            "line 3, column 1 'a': the value is missing; --skip-missing",
        ),
        (
            "text",
            "a,b\n1,red\n".to_owned(),
            &[],
            "'red' is not a number; --drop",
        ),
        (
            "infinite",
            "1,2\n1,inf\n".to_owned(),
            &[],
            "line 2, column 2: 'inf' is not finite",
        ),
        (
            "few",
            "a,b\n1,2\n3,4\n".to_owned(),
            &[],
            "has 2 rows, too few",
        ),
        (
            "ragged",
            "a,b\n1,2\n1,2,3\n".to_owned(),
            &[],
            "line 3: has 3 fields, expected 2",
        ),
        (
            "constant",
            format!("a,b\n{}", many("1,2\n")),
            &[],
            "no column is left to fit a density to",
        ),
        (
            "one",
            format!("a\n{}", many("1\n2\n5\n")),
            &["--model", "maf"],
            "is a Gaussian",
        ),
        (
            "iaf",
            format!("a,b\n{}", many("1,2\n2,3\n")),
            &["--model", "iaf"],
            "take 'maf'",
        ),
        (
            "name",
            "a,b\n1,2\n".to_owned(),
            &["--drop", "z"],
            "has no column 'z'; it has a, b",
        ),
        (
            "config",
            format!("a,b\n{}", many("1,2\n2,3\n")),
            &["--batch", "0"],
            "batch is 0",
        ),
        ("npz", "PK\u{3}\u{4}".to_owned(), &[], "zip"),
        (
            "quote",
            format!("a,b\n{}1,\"2\n", many("1,2\n2,3\n")),
            &[],
            "line 62: a quoted field is not closed",
        ),
        (
            "hash",
            format!("a,b\n#N/A,1\n{}", many("1,2\n2,3\n")),
            &[],
            "line 2, column 1 'a': the value is missing; --skip-missing",
        ),
        (
            "array",
            "a,b\n1,2\n".to_owned(),
            &["--array", "x"],
            "is no npz file",
        ),
    ];
    for (name, content, options, expected) in &cases {
        let data = at(name);
        fs::write(&data, content).unwrap();
        let mut command = flows();
        command
            .arg("fit")
            .arg(&data)
            .arg("-o")
            .arg(at("never"))
            .args(*options);
        let output = command.assert().code(2);
        let said = text(&output.get_output().stderr);
        let errors: Vec<&str> = said.lines().filter(|l| l.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{name}: {said}");
        assert!(errors[0].contains(expected), "{name}: {said}");
        assert!(
            said.ends_with(&format!("{}\n", errors[0])),
            "{name}: {said}"
        );
        assert!(
            !at("never").exists() && !at("never.checkpoint").exists(),
            "{name}"
        );
    }
    let data = at("good.csv");
    fs::write(&data, format!("a,b\n{}", many("1,2\n2,3\n"))).unwrap();
    let mut unwritable = flows();
    unwritable
        .arg("fit")
        .arg(&data)
        .arg("-o")
        .arg(at("missing/m.flow"));
    let refused = unwritable.assert().code(2);
    refused.stderr(contains("m.flow").and(contains("step").not()));
    let nowhere = flows().args(["info", "nothing.flow"]).assert().code(2);
    nowhere.stderr(contains("cannot read nothing.flow"));
    let foreign = flows().arg("info").arg(at("text")).assert().code(2);
    foreign.stderr(contains("is not a model file of this program"));
}

/// Columns whose names a separator, a comment, a number or a quote could be taken for.
const NAMES: [&str; 4] = ["400", "p (Pa; abs), wet", "#1", "5\" pipe"];

/// A table of four columns with these names.
fn odd_names(folder: &Path) -> PathBuf {
    let path = folder.join("odd.csv");
    let quoted = NAMES.map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    let rows = table(60);
    let rows = rows.iter().zip(rows.iter().rev());
    let lines = rows.map(|([a, b, c], [d, ..])| format!("{a},{b},{c},{d}\n"));
    let text = format!("{}\n{}", quoted.join(","), lines.collect::<String>());
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_sample_writes_log_prob_reads_back_whatever_the_names_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let data = odd_names(folder.path());
    // All names are known to hold words or not: the user says so once.
    let model = at("m.flow");
    let mut command = fit(&data, &model);
    command
        .args(["--header", "yes", "--drop", "#1"])
        .assert()
        .success();
    for rows in ["1", "30"] {
        let mut sample = flows();
        sample
            .arg("sample")
            .arg(&model)
            .args(["-n", rows, "--force", "-o"]);
        sample.arg(at("s.csv")).assert().success();
        let mut score = flows();
        let done = score
            .arg("log-prob")
            .arg(&model)
            .arg(at("s.csv"))
            .assert()
            .success();
        let output = done.get_output();
        let header = "header: 400, p (Pa; abs), wet, 5\" pipe";
        assert!(
            text(&output.stderr).contains(header),
            "{}",
            text(&output.stderr)
        );
        let scores = text(&output.stdout).lines().count() - 1;
        assert_eq!(scores.to_string(), rows);
    }
}

#[test]
fn every_option_that_takes_names_takes_any_name_and_advice_can_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let data = odd_names(folder.path());
    let model = at("m.flow");
    let mut command = fit(&data, &model);
    command.args(["--header", "yes", "--columns", "400,5\" pipe"]);
    command
        .args(["--context", "p (Pa; abs), wet,3"])
        .assert()
        .success();
    let sample = |context: &[&str]| {
        let mut command = flows();
        command
            .arg("sample")
            .arg(&model)
            .args(["-n", "3"])
            .args(context);
        command.assert()
    };
    let words = "--context 'p (Pa; abs), wet=VALUE,#1=VALUE', or --context-from";
    sample(&[]).code(2).stderr(contains(words));
    let done = sample(&["--context", "p (Pa; abs), wet=0.5,#1=1"]).success();
    let lines = text(&done.get_output().stdout);
    assert!(
        lines.lines().skip(1).all(|line| line.contains(",0.5,1,")),
        "{lines}"
    );
    // By number too, as for fit.
    sample(&["--context", "2=0.5", "--context", "3=1"])
        .success()
        .stdout(lines);
    let twice = sample(&["--context", "2=0.5,3=1,#1=1"]).code(2);
    twice.stderr(contains("--context gives #1 twice"));
}

#[test]
fn a_table_with_other_names_is_refused_and_one_without_is_taken_by_place() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = at("m.flow");
    fit(&csv(folder.path(), 60), &model).assert().success();
    let score = |header: &str| {
        fs::write(at("new.csv"), format!("{header}1,2,3\n4,5,6\n")).unwrap();
        let mut command = flows();
        command
            .arg("log-prob")
            .arg(&model)
            .arg(at("new.csv"))
            .assert()
    };
    for header in ["A,B,C\n", "x,y,z\n", "c,b,aa\n"] {
        score(header)
            .code(2)
            .stderr(contains("has no column '").and(contains("which the model uses")));
    }
    score("")
        .success()
        .stderr(contains("has no names: columns are taken by place"));
}

#[test]
fn an_index_column_without_a_name_can_be_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let rows = table(60);
    let lines = |mark: &str| {
        let rows = rows.iter().enumerate();
        let lines = rows.map(|(i, [a, b, _])| format!("{mark}{i}{mark},{a},{b}\n"));
        lines.collect::<String>()
    };
    let pandas = format!(",x1,x2\n{}", lines(""));
    let r = format!("\"\",\"x1\",\"x2\"\n{}", lines("\""));
    for (name, text) in [("pandas", pandas), ("r", r)] {
        let data = folder.path().join(name);
        fs::write(&data, text).unwrap();
        let mut command = fit(&data, &folder.path().join(format!("{name}.flow")));
        let done = command.args(["--drop", "1"]).assert().success();
        done.stderr(contains("60 rows, density of x1, x2;"));
    }
}

#[cfg(unix)]
#[test]
fn pipes_are_written_through_and_links_stay() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = at("m.flow");
    fit(&csv(folder.path(), 60), &model).assert().success();
    let sample = |out: &Path| {
        let mut command = Process::new(assert_cmd::cargo::cargo_bin("flows"));
        command
            .arg("sample")
            .arg(&model)
            .args(["-n", "20", "--force", "-o"])
            .arg(out);
        command
    };
    fs::write(at("real"), "old").unwrap();
    std::os::unix::fs::symlink("real", at("link")).unwrap();
    assert!(sample(&at("link")).status().unwrap().success());
    assert!(at("link").is_symlink());
    assert_eq!(fs::read_to_string(at("real")).unwrap().lines().count(), 21);

    let pipe = at("pipe");
    assert!(
        Process::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let mut child = sample(&pipe).spawn().unwrap();
    let got = fs::read_to_string(&pipe).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(got.lines().count(), 21);
    assert!(!fs::metadata(&pipe).unwrap().is_file());
    // A model is read back, so it is no pipe.
    let mut into_pipe = fit(&at("data.csv"), &pipe);
    into_pipe
        .assert()
        .code(2)
        .stderr(contains("a model is a file, not a pipe"));
}

#[test]
fn the_density_experiment_says_where_data_come_from_and_runs_on_what_is_given() {
    let density = || {
        let mut command = Command::cargo_bin("density").unwrap();
        command.env_remove("FLOWS_DATA");
        command
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    density()
        .args(["--list"])
        .assert()
        .success()
        .stdout(contains("miniboone"));
    // A set as a converter leaves it.
    fs::create_dir(at("gas")).unwrap();
    let rows = table(500).concat();
    for (name, rows) in [
        ("train", &rows[..1200]),
        ("validation", &rows[900..1200]),
        ("test", &rows[1200..]),
    ] {
        let path = at("gas").join(format!("{name}.npy"));
        let mut sink =
            Sink::create(&path, Format::Npy, vec!["x".to_owned(); 3], vec![6; 3]).unwrap();
        sink.push(rows).unwrap();
        sink.finish().unwrap();
    }
    let config = "sets = ['gas']\nmodels = ['gaussian', 'made', 'iaf']\nseeds = 2\nsamples = 500\n\
                  [course]\nsteps = 40\nbatch = 100\n\
                  [[model]]\nname = 'gaussian'\nfamily = 'gaussian'\n\
                  [[model]]\nname = 'made'\nfamily = 'made'\nhidden = [8]\nscale = 'exp'\n\
                  [[model]]\nname = 'iaf'\nfamily = 'iaf'\n";
    fs::write(at("small.toml"), config).unwrap();
    let run = |out: &str, more: &[&str]| {
        let mut command = density();
        command
            .arg("--config")
            .arg(at("small.toml"))
            .arg("--data-dir")
            .arg(folder.path());
        command.arg("--out").arg(at(out)).args(more);
        command
    };
    let done = run("out", &[]).assert().success();
    done.stdout(contains("gas made seed 1").and(contains("refused")));
    let summary = |out: &str| -> serde_json::Value {
        let bytes = fs::read(at(out).join("summary.json")).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let first = summary("out");
    let rows = first["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["published"], "-3.58 ± 0.75");
    assert_eq!(rows[0]["rows"], serde_json::json!([400, 100, 100]));
    assert!(rows[1]["score"]["stderr"].as_f64().unwrap() > 0.0);
    assert!(
        rows[2]["score"].is_null()
            && rows[2]["notes"][0]
                .as_str()
                .unwrap()
                .contains("sequential inverse")
    );
    assert!(
        fs::read_to_string(at("out").join("table.md"))
            .unwrap()
            .contains("prepared by the user")
    );
}

#[test]
fn an_ensemble_has_a_spread_and_a_check_has_a_line_for_each_test_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let data = csv(folder.path(), 300);
    let model = at("m.flow");
    let members = ["--members", "2", "--mixture", "true", "--context", "c"];
    fit(&data, &model).args(members).assert().success();
    assert!(!at("m.flow.checkpoint").exists() && !at("m.flow.checkpoint.2").exists());
    let info = flows().arg("info").arg(&model).assert().success();
    info.stdout(contains("members              2").and(contains("% of the density")));
    let mut score = flows();
    score.arg("log-prob").arg(&model).arg(&data).arg("--spread");
    score.arg("-o").arg(at("s.csv")).assert().success();
    let (names, values) = numbers(&at("s.csv"));
    assert_eq!(names.unwrap(), ["log_prob", "spread"]);
    assert!(values.len() == 600 && values.chunks(2).all(|row| row[1] >= 0.0));
    assert!(values.chunks(2).any(|row| row[1] > 1e-3));

    let check = |more: &[&str]| {
        let mut check = flows();
        check.arg("check").arg(&model).arg(&data);
        check.args(["--permutations", "99"]).args(more);
        check.assert()
    };
    let picture = at("ranks.png");
    let done = check(&["-o", picture.to_str().unwrap()]).success();
    let lines = text(&done.get_output().stdout);
    for word in [
        "energy distance",
        "classifier:",
        "columns:",
        "correlations:",
        "training rows:",
        "calibration:",
    ] {
        let line = lines.lines().find(|l| l.starts_with(word));
        assert!(
            line.is_some_and(|l| l.contains("p = ")),
            "{word} in {lines}"
        );
    }
    assert!(fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    check(&["-o", picture.to_str().unwrap()]).code(2);

    // One model has no spread.
    let single = at("single.flow");
    fit(&data, &single)
        .args(["--members", "1"])
        .assert()
        .success();
    let mut score = flows();
    score
        .arg("log-prob")
        .arg(&single)
        .arg(&data)
        .arg("--spread");
    score
        .assert()
        .code(2)
        .stderr(contains("the model is no ensemble"));
}

#[test]
fn the_table_of_the_demo_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("household.csv");
    let demo = || {
        let mut demo = flows();
        demo.arg("demo").arg(&path);
        demo.assert()
    };
    demo().success().stdout(contains("2000 rows"));
    demo().code(2).stderr(contains("--force"));
    let (names, values) = numbers(&path);
    let expected = ["hour", "power", "voltage", "kitchen", "laundry", "climate"];
    assert_eq!(names.unwrap(), expected);
    assert_eq!(values.len(), 6 * 2000);
    assert!(values.iter().all(|v| *v >= 0.0) && values.chunks(6).all(|row| row[0] < 24.0));
}

/// Two screens of fifty lines.
#[test]
fn the_help_of_each_command_fits_two_screens_and_has_an_example() {
    for command in [
        "fit", "log-prob", "sample", "plot", "check", "info", "data", "demo",
    ] {
        let done = flows().args([command, "--help"]).assert().success();
        let help = text(&done.get_output().stdout);
        assert!(
            help.lines().count() <= 100,
            "{command}: {} lines",
            help.lines().count()
        );
        let teaches = ["info", "data"].contains(&command)
            || help.contains("Examples:\n") && help.contains(&format!("\n  flows {command} "));
        assert!(teaches, "{command}: {help}");
    }
}

#[test]
fn a_flow_of_another_library_is_imported_scored_and_sampled() {
    let folder = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../flows-models/tests/data");
    let file = data.join("interop/zuko-maf-context.safetensors");
    let model = folder.path().join("stars.flow");
    let import = |more: &[&str]| {
        let mut command = flows();
        command
            .arg("import")
            .arg(&file)
            .args(["--from", "zuko", "-o"]);
        command.arg(&model).args(more);
        command.assert()
    };
    import(&["--columns", "mass,radius"])
        .code(2)
        .stderr(contains(
            "the flow has 3 columns, and 2 have names: mass, radius",
        ));
    let named = ["--columns", "mass,radius,age", "--context", "x,y"];
    import(&named)
        .success()
        .stdout(contains("the log-densities of 16 rows are those of zuko"));
    import(&named).code(2).stderr(contains("--force"));

    let with_model = |command: &str| {
        let mut with = flows();
        with.arg(command).arg(&model);
        with
    };
    with_model("info")
        .assert()
        .success()
        .stdout(contains("imported from"))
        .stdout(contains("mass, radius, age"));
    let samples = folder.path().join("samples.csv");
    with_model("sample")
        .args(["-n", "40", "--context", "x=0.5,y=-1", "-o"])
        .arg(&samples)
        .assert()
        .success();
    with_model("log-prob")
        .arg(&samples)
        .assert()
        .success()
        .stderr(contains("mean log-likelihood"));

    let refused = data.join("wrong/zuko-sos.safetensors");
    flows()
        .arg("import")
        .arg(refused)
        .args(["--from", "zuko", "-o"])
        .arg(folder.path().join("sos.flow"))
        .assert()
        .code(2)
        .stderr(contains("no map 'ShiftedSOSPTransform' here"));
}
