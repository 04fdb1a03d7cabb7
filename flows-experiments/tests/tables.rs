//! Tables as people have them: what `flows` says of gaps, fill values, constants and rows far outside, and
//! what it makes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use rand::{RngExt, SeedableRng, rngs::StdRng};

fn flows() -> Command {
    Command::cargo_bin("flows").unwrap()
}

/// A folder with a table in it.
struct Case(tempfile::TempDir);

impl Case {
    /// `rows` rows, each made from two normal numbers and its number.
    fn new(names: &str, rows: usize, mut row: impl FnMut(usize, f64, f64) -> String) -> Self {
        let case = Self(tempfile::tempdir().unwrap());
        let rng = &mut StdRng::seed_from_u64(1);
        let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let lines: Vec<String> = (0..rows).map(|i| row(i, normal(), normal())).collect();
        case.write("data.csv", &format!("{names}\n{}\n", lines.join("\n")));
        case
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    /// A short fit of a small model; its messages.
    fn fit(&self, more: &[&str]) -> String {
        let mut command = flows();
        command.arg("fit").arg(self.at("data.csv"));
        command.arg("-o").arg(self.at("m")).arg("--force");
        command.args(["--layers", "2", "--hidden", "8"]).args(more);
        if !more.contains(&"--steps") {
            command.args(["--steps", "60"]);
        }
        let done = command.assert().success();
        text(&done.get_output().stderr)
    }

    /// Scores of a table, a text a row, and the messages.
    fn scores(&self, data: &str, more: &[&str]) -> (Vec<String>, String) {
        let mut command = flows();
        command
            .arg("log-prob")
            .arg(self.at("m"))
            .arg(self.at(data))
            .args(more);
        let done = command.assert().success();
        let scores = text(&done.get_output().stdout);
        let scores = scores.lines().skip(1).map(str::to_owned).collect();
        (scores, text(&done.get_output().stderr))
    }

    fn check(&self, data: &str) -> (String, String) {
        let mut command = flows();
        command.arg("check").arg(self.at("m")).arg(self.at(data));
        let done = command.args(["--permutations", "99"]).assert().success();
        let output = done.get_output();
        (text(&output.stdout), text(&output.stderr))
    }

    /// Samples, a row of texts each, without the header.
    fn samples(&self, n: &str) -> Vec<Vec<String>> {
        let mut command = flows();
        let done = command
            .arg("sample")
            .arg(self.at("m"))
            .args(["-n", n])
            .assert()
            .success();
        let rows = text(&done.get_output().stdout);
        let fields = |line: &str| line.split(',').map(str::to_owned).collect();
        rows.lines().skip(1).map(fields).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The notes that name all of these.
#[track_caller]
fn assert_note(said: &str, words: &[&str]) {
    let notes = said.lines().filter(|line| line.starts_with("note: "));
    let mut found = notes.filter(|line| words.iter().all(|word| line.contains(word)));
    assert!(found.next().is_some(), "no note with {words:?} in:\n{said}");
}

#[test]
fn a_table_with_gaps_gets_one_score_a_row_and_a_count() {
    let case = Case::new("x,y", 200, |i, a, b| match i % 20 {
        3 => format!("{a},NA"),
        7 => format!(",{b}"),
        _ => format!("{a},{b}"),
    });
    case.fit(&["--skip-missing"]);
    let (scores, said) = case.scores("data.csv", &[]);
    assert_eq!(scores.len(), 200);
    for (i, score) in scores.iter().enumerate() {
        assert_eq!(score == "NaN", matches!(i % 20, 3 | 7), "row {i}: {score}");
    }
    assert_note(&said, &["20 of 200 rows have a missing value"]);
    assert!(said.contains("mean log-likelihood -"), "{said}");
    let (_, said) = case.check("data.csv");
    assert!(
        said.contains("20 rows with missing values left out"),
        "{said}"
    );
}

#[test]
fn scores_are_not_written_over_a_file_unasked() {
    let case = Case::new("x,y", 60, |_, a, b| format!("{a},{b}"));
    case.fit(&[]);
    case.write("scores.csv", "mine");
    let written = || fs::read_to_string(case.at("scores.csv")).unwrap();
    let score = |more: &[&str]| {
        let mut command = flows();
        command
            .arg("log-prob")
            .arg(case.at("m"))
            .arg(case.at("data.csv"));
        command.arg("-o").arg(case.at("scores.csv")).args(more);
        command.assert()
    };
    let refused = score(&[]).code(2);
    let said = text(&refused.get_output().stderr);
    assert!(
        said.contains("scores.csv") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(written(), "mine");
    score(&["--force"]).success();
    assert_eq!(written().lines().count(), 61);
}

#[test]
fn fill_values_are_noted_and_leave_the_other_rows_their_digits() {
    for fill in ["9.96921e36", "1e20", "-9999"] {
        let case = Case::new("tas,ua", 400, |i, a, b| match i % 150 {
            20 => format!("{fill},{b}"),
            _ => format!("{},{b}", 280.0 + 10.0 * a),
        });
        let said = case.fit(&[]);
        assert_note(&said, &["'tas'", fill, "3 of 400 rows", "--skip-missing"]);
        let mut drawn: Vec<String> = case
            .samples("200")
            .into_iter()
            .map(|row| row[0].clone())
            .collect();
        let decimals = drawn.iter().filter(|v| v.contains('.')).count();
        assert!(
            decimals > 190,
            "{fill}: {decimals} of 200 samples have decimals"
        );
        drawn.sort();
        drawn.dedup();
        assert!(drawn.len() > 190, "{fill}: {} different", drawn.len());
        let (scores, said) = case.scores("data.csv", &[]);
        assert!(
            scores.len() == 400 && !scores.contains(&"NaN".to_owned()),
            "{said}"
        );
        let outside = scores.iter().filter(|score| *score == "-inf").count();
        assert_eq!(outside, if fill == "-9999" { 0 } else { 3 });
    }
}

#[test]
fn the_fill_value_of_a_few_rows_does_not_decide_the_scale_of_the_others() {
    let make = |fill: bool| {
        Case::new("tas,ua", 300, move |i, a, b| match i % 100 {
            20 if fill => format!("1e20,{b}"),
            20 => String::new(),
            _ => format!("{},{b}", 280.0 + 10.0 * a),
        })
    };
    let scores = |case: Case| {
        case.fit(&[]);
        case.scores("data.csv", &[]).0
    };
    let (with, without) = (scores(make(true)), scores(make(false)));
    assert_eq!((with.len(), without.len()), (300, 297));
    let mean = |scores: &[String]| {
        let finite = scores
            .iter()
            .map(|s| s.parse::<f64>().unwrap())
            .filter(|s| *s > -1e4);
        finite.sum::<f64>() / 297.0
    };
    assert!(
        (mean(&with) - mean(&without)).abs() < 0.3,
        "{} {}",
        mean(&with),
        mean(&without)
    );
}

#[test]
fn rows_far_outside_fall_to_minus_infinity() {
    let case = Case::new("x,y", 200, |_, a, b| format!("{},{}", 2.0 + a, b * b));
    let far: String = (0..=300)
        .step_by(4)
        .flat_map(|power| {
            ["", "-"].map(|sign| format!("{sign}1e{power},0.5\n0.1,{sign}1e{power}\n"))
        })
        .collect();
    case.write("far.csv", &format!("x,y\n{far}"));
    for model in ["maf", "realnvp", "ddnf", "planar"] {
        let hidden: &[&str] = match model {
            "planar" => &[],
            _ => &["--hidden", "8"],
        };
        let mut command = flows();
        command
            .arg("fit")
            .arg(case.at("data.csv"))
            .arg("-o")
            .arg(case.at("m"));
        command
            .args([
                "--force", "--layers", "2", "--steps", "60", "--model", model,
            ])
            .args(hidden);
        command.assert().success();
        for dtype in ["f32", "f64"] {
            let (scores, said) = case.scores("far.csv", &["--dtype", dtype]);
            assert_eq!(scores.len(), 304);
            let scores: Vec<f64> = scores.iter().map(|s| s.parse().unwrap()).collect();
            let bad = scores
                .iter()
                .filter(|s| s.is_nan() || **s == f64::INFINITY)
                .count();
            assert_eq!(bad, 0, "{model} {dtype}: {said}");
            assert_eq!(scores[303], f64::NEG_INFINITY);
            let outside = scores.iter().filter(|s| s.is_infinite()).count();
            assert_note(
                &said,
                &[&format!("{outside} of 304 rows have a log-density of -inf")],
            );
        }
    }
}

#[test]
fn time_stamps_give_distinct_samples_that_pass_the_check() {
    let starts = [(1.6e9, 1.0), (1.7e18, 1e9), (2018.0, 1.0)];
    for (start, width) in starts {
        let case = Case::new("t,v", 600, |_, a, b| format!("{},{b}", start + width * a));
        case.fit(&["--steps", "300"]);
        let mut drawn: Vec<String> = case
            .samples("500")
            .into_iter()
            .map(|row| row[0].clone())
            .collect();
        drawn.sort();
        drawn.dedup();
        assert!(drawn.len() > 490, "{start}: {} different", drawn.len());
        let (done, _) = case.check("data.csv");
        assert!(done.contains("no difference found"), "{start}: {done}");
    }
}

#[test]
fn a_flag_that_no_test_row_has_can_be_checked() {
    let case = Case::new("x,y,flag", 300, |i, a, b| {
        format!("{a},{b},{}", u8::from(i % 149 == 100))
    });
    for seed in ["0", "1", "2", "3"] {
        let said = case.fit(&["--seed", seed]);
        let (_, checked) = case.check("data.csv");
        assert!(
            checked.contains("30 of the 30 test rows, held out of the fit"),
            "{checked}"
        );
        if said.contains("or test row") || said.contains("a test row") {
            assert_note(&said, &["'flag'", "the value 1 in 2 rows", "test row"]);
            assert_note(&checked, &["'flag' is constant in the rows compared"]);
            case.write(
                "other.csv",
                &fs::read_to_string(case.at("data.csv"))
                    .unwrap()
                    .replace("x,y,flag", "y,x,flag"),
            );
            let (_, said) = case.check("other.csv");
            assert!(
                said.contains("all 300 rows of a table that is not the one of the fit"),
                "{said}"
            );
            return;
        }
    }
    panic!("every seed had the flag in the test rows");
}

#[test]
fn fewer_rows_than_columns_are_called_that() {
    let names: Vec<String> = (0..30).map(|i| format!("c{i}")).collect();
    let case = Case::new(&names.join(","), 25, |row, a, b| {
        let values = (0..30).map(|i| ((i * i + 1) as f64 * (a + 7.0 * b) + row as f64 / 3.0).sin());
        values.map(|v| v.to_string()).collect::<Vec<_>>().join(",")
    });
    let said = case.fit(&[]);
    assert_note(
        &said,
        &["fewer rows than columns: 19 training rows of 30 columns"],
    );
    assert!(!said.contains("linear function"), "{said}");
    let mut command = flows();
    command
        .arg("fit")
        .arg(case.at("data.csv"))
        .arg("-o")
        .arg(case.at("n"))
        .args(["--whiten", "true"]);
    let refused = command.assert().code(2);
    refused.stderr(
        contains("19 training rows of 30 columns are too few").and(contains("--whiten false")),
    );
}

#[test]
fn repeated_rows_values_and_steps_are_noted() {
    let few = |i: usize| {
        [
            f64::from((i % 20) as u32).sin(),
            f64::from((i % 20) as u32).cos(),
        ]
    };
    let case = Case::new("x,y", 400, |i, _, _| format!("{},{}", few(i)[0], few(i)[1]));
    let said = case.fit(&[]);
    assert_note(
        &said,
        &[
            "repeated rows: only 20 of 400 rows are different",
            "remove the repeats",
        ],
    );

    let case = Case::new("rain,count,long", 300, |i, a, b| {
        let rain = if i % 3 == 0 { 0.0 } else { a * a };
        let long = if i == 57 { 3000.0 } else { b };
        format!("{rain},{},{long}", (30.0 * a).round() + 1000.0)
    });
    let said = case.fit(&["--kinds", "none"]);
    assert_note(
        &said,
        &[
            "'rain' has the value 0 in 100 of 300 rows",
            "fit the other rows alone",
        ],
    );
    assert_note(
        &said,
        &["'count' has only", "all whole numbers", "--discrete count"],
    );
    assert_note(
        &said,
        &["'long': one row, with the value 3000, decides its scale"],
    );
    let case = Case::new("x,y", 300, |_, a, b| format!("{a},{b}"));
    let said = case.fit(&[]);
    assert!(
        !said.contains("note: column") && !said.contains("repeated"),
        "{said}"
    );
}

#[test]
fn columns_that_others_determine_are_kept_as_what_they_are() {
    let case = Case::new("year,a,total,b", 200, |_, a, b| {
        let (a, b) = (5.0 + a, 2.0 * b);
        format!("2024,{a},{},{b}", 3.0 - b + a)
    });
    // `b` is what follows `total`, which comes before it.
    let said = case.fit(&[]);
    assert_note(&said, &["'year' is constant (2024)", "--drop year"]);
    assert_note(
        &said,
        &["'b' is a linear function of other columns (a - total + 3)"],
    );
    for row in case.samples("50") {
        let [year, a, total, b] = [0, 1, 2, 3].map(|i| row[i].parse::<f64>().unwrap());
        assert!(row[0] == "2024" && year == 2024.0);
        assert!((3.0 - b + a - total).abs() < 1e-6, "{row:?}");
    }
    let mut command = flows();
    command
        .arg("sample")
        .arg(case.at("m"))
        .args(["-n", "50", "-o"])
        .arg(case.at("own.csv"));
    command.assert().success();
    let (scores, _) = case.scores("own.csv", &[]);
    assert!(
        scores.iter().all(|s| s.parse::<f64>().unwrap().is_finite()),
        "{scores:?}"
    );
    case.write(
        "other.csv",
        "year,a,total,b\n2024,5,7,1\n2023,5,7,1\n2024,5,7,1.1\n2024,5,7,NA\n",
    );
    let (scores, said) = case.scores("other.csv", &[]);
    assert!(scores[0].parse::<f64>().unwrap().is_finite());
    assert_eq!(scores[1..], ["-inf", "-inf", "NaN"]);
    assert_note(&said, &["2 of 4 rows have a log-density of -inf"]);
    let info = flows().arg("info").arg(case.at("m")).assert().success();
    info.stdout(contains("year = 2024, b = a - total + 3").and(contains("\"dim\":2")));
    let (_, said) = case.check("data.csv");
    assert!(!said.contains("differ in a column"), "{said}");
    case.fit(&["--whiten", "true"]);
}

#[test]
fn a_context_far_away_is_noted_and_rows_without_a_number_are_an_error() {
    let case = Case::new("c,k,y,z", 300, |_, a, b| {
        format!("{a},5,{},{b}", 2.0 * a + 0.5 * b)
    });
    let said = case.fit(&["--context", "c,k"]);
    assert_note(&said, &["context column 'k' is 5 in all training rows"]);
    let sample = |c: f64, k: f64| {
        let mut command = flows();
        command
            .arg("sample")
            .arg(case.at("m"))
            .args(["-n", "5", "--context"]);
        command.arg(format!("c={c:e},k={k}"));
        let output = command.output().unwrap();
        (
            output.status.code().unwrap(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, _, said) = sample(1.0, 5.0);
    assert!(code == 0 && !said.contains("note"), "{said}");
    for power in 2..=300 {
        if power > 12 && power % 24 != 0 {
            continue;
        }
        let (code, rows, said) = sample(10f64.powi(power), 5.0);
        assert_note(
            &said,
            &["5 of 5 rows have a context more than 10 standard deviations"],
        );
        let bad = rows.contains("NaN") || rows.contains("inf");
        assert_eq!(code, i32::from(bad), "{power}: {said}");
        assert_eq!(
            bad,
            said.contains("error: 5 of 5 rows could not be drawn"),
            "{said}"
        );
    }
    let (code, rows, said) = sample(1.0, 6.0);
    assert_note(&said, &["5 of 5 rows have a context"]);
    assert!(code == 0 && !rows.contains("NaN"));
    case.write("far.csv", "c,k,y,z\n0,5,0,0\n1e300,5,0,0\n0,5,1e300,0\n");
    let (scores, said) = case.scores("far.csv", &[]);
    assert_eq!(scores[2], "-inf");
    assert_note(&said, &["1 of 3 rows have a context more than 10"]);
}

#[test]
fn a_fit_goes_on_in_the_type_and_threads_it_was_begun_with() {
    let case = Case::new("a,b", 300, |_, a, b| format!("{a},{}", a * a + b));
    let checkpoint = case.at("m.checkpoint");
    let command = |more: &[&str]| {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("flows"));
        command
            .arg("fit")
            .arg(case.at("data.csv"))
            .arg("-o")
            .arg(case.at("m"));
        command.args([
            "--layers",
            "2",
            "--hidden",
            "8",
            "--steps",
            "600",
            "--patience",
            "1000",
        ]);
        command.args(["--checkpoint-seconds", "0"]).args(more);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let mut child = command(&["--dtype", "f64", "--threads", "1"])
        .spawn()
        .unwrap();
    while !checkpoint.exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before a checkpoint"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for (more, named) in [
        (
            ["--dtype", "f32"],
            "compute.dtype was \"f64\", and is \"f32\"",
        ),
        (["--threads", "2"], "compute.threads was 1, and is 2"),
        (["--seed", "4"], "config.seed was 0, and is 4"),
    ] {
        let output = command(&["--resume"]).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        assert!(said.contains(named), "{said}");
    }
    let output = command(&["--resume"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let info = flows().arg("info").arg(case.at("m")).assert().success();
    info.stdout(contains("flex in f64"));
}

#[test]
fn names_in_any_script_and_large_offsets_are_drawn() {
    let case = Case::new("温度,Größe (µm),t", 100, |_, a, b| {
        format!("{a},{b},{}", 1.6e9 + 100.0 * a * b)
    });
    case.fit(&[]);
    let draw = |out: &Path| {
        let mut command = flows();
        command
            .arg("plot")
            .arg(case.at("m"))
            .arg(case.at("data.csv"))
            .arg("-o")
            .arg(out);
        let done = command.assert().success();
        text(&done.get_output().stderr)
    };
    let said = draw(&case.at("pairs.png"));
    assert_note(&said, &["'温度'", "drawn as 'column 1'"]);
    assert!(!said.contains("Größe (µm)'"), "{said}");
}

#[test]
fn weights_count_and_numbers_stand_for_missing_values_where_asked() {
    // Three in four by weight lie around 3, half of the rows do.
    let case = Case::new("x,w", 600, |i, a, _| match i {
        5 | 6 => "-9999,1".to_owned(),
        _ if i % 2 == 0 => format!("{},3", 3.0 + 0.3 * a),
        _ => format!("{},1", -3.0 + 0.3 * a),
    });
    let options = ["--weights", "w", "--skip-missing", "--missing", "-9999"];
    let said = case.fit(&[&options[..], &["--steps", "300"]].concat());
    assert!(
        said.contains("2 rows with missing values left out"),
        "{said}"
    );
    assert!(said.contains("density of x;"), "{said}");
    let above = case.samples("400");
    let above = above
        .iter()
        .filter(|row| row[0].parse::<f64>().unwrap() > 0.0);
    let share = above.count() as f64 / 400.0;
    assert!((share - 0.75).abs() < 0.12, "{share}");
    let info = flows().arg("info").arg(case.at("m")).assert().success();
    info.stdout(contains("60 test, weighted"));
    let mut command = flows();
    command
        .arg("fit")
        .arg(case.at("data.csv"))
        .arg("-o")
        .arg(case.at("n"));
    let refused = command.args(["--weights", "x"]).assert().code(2);
    refused.stderr(contains("has the weight -"));
}

#[test]
fn kinds_are_printed_with_their_remedy_and_kept() {
    let case = Case::new("n,share,rain,v", 400, |i, a, b| {
        let uniform = (i as f64 * 0.618_033_988_7).fract();
        let rain = if i % 3 == 0 { 0.0 } else { a * a + 0.01 };
        format!(
            "{},{},{rain},{b}",
            (3.0 * b.abs()).floor(),
            0.001 + 0.998 * uniform
        )
    });
    let said = case.fit(&[]);
    for words in [
        "column 'n' is taken as whole numbers from 0: all 320 values are whole numbers",
        "column 'share' is taken as between 0 and 1 (logit)",
        "column 'rain' is taken as the value 0, or continuous above it",
        "--continuous rain takes it as it is",
    ] {
        assert!(said.contains(words), "no '{words}' in:\n{said}");
    }
    assert!(!said.contains("column 'v'"), "{said}");
    for row in case.samples("300") {
        let [n, share, rain] = [0, 1, 2].map(|i| row[i].parse::<f64>().unwrap());
        assert!(n >= 0.0 && n.fract() == 0.0 && rain >= 0.0, "{row:?}");
        assert!((0.0..=1.0).contains(&share), "{row:?}");
    }
    let info = flows().arg("info").arg(case.at("m")).assert().success();
    info.stdout(contains(
        "n: whole numbers from 0, share: between 0 and 1 (logit)",
    ));
    let said = case.fit(&[
        "--continuous",
        "rain,n",
        "--bounds",
        "share=-1:2",
        "--periodic",
        "v=360",
    ]);
    assert!(
        said.contains("'share' is taken as between -1 and 2 (logit): asked for"),
        "{said}"
    );
    assert!(said.contains("'v' is taken as periodic (360)"), "{said}");
    assert!(!said.contains("column 'n' is taken"), "{said}");
    let mut command = flows();
    command
        .arg("fit")
        .arg(case.at("data.csv"))
        .arg("-o")
        .arg(case.at("n"));
    let refused = command.args(["--positive", "v"]).assert().code(2);
    refused.stderr(contains("column 'v' has the value").and(contains("that are not positive")));
}

#[test]
fn one_context_for_all_rows_is_that_context_in_each() {
    let case = Case::new("y,c", 300, |_, a, b| format!("{},{a}", a + 0.3 * b));
    case.fit(&["--context", "c"]);
    case.write("alone.csv", "y\n0.5\n1.5\n");
    case.write("beside.csv", "y,c\n0.5,1.5\n1.5,1.5\n");
    let (alone, said) = case.scores("alone.csv", &["--context", "c=1.5"]);
    assert_eq!(alone, case.scores("beside.csv", &[]).0);
    assert!(!said.contains("a guess"), "{said}");
    let (_, said) = case.scores("alone.csv", &["--context", "c=50"]);
    assert_note(
        &said,
        &["2 of 2 rows have a context more than 10 standard deviations"],
    );
    let plot = |context: &str| {
        let mut command = flows();
        command.arg("plot").arg(case.at("m")).arg("--force");
        command
            .args(["--context", context, "--points", "50", "-o"])
            .arg(case.at("p.png"))
            .assert()
    };
    plot("c=1.5").success();
    let far = plot("c=50").success();
    assert_note(
        &text(&far.get_output().stderr),
        &["50 of 50 samples have a context"],
    );
    plot("d=1")
        .code(2)
        .stderr(contains("--context d=1: the columns are c"));
}

#[test]
fn rows_whose_inverse_is_not_solved_are_counted_and_an_error() {
    let case = Case::new("x,y", 200, |_, a, b| format!("{a},{}", a * a + b));
    case.write(
        "ddnf.toml",
        "kind = 'ddnf'\ndim = 2\nblocks = 1\ncells = 1\nhidden = [16]\ninverse = { exact = { max_iterations = 1 } }\n",
    );
    let mut fit = flows();
    fit.arg("fit")
        .arg(case.at("data.csv"))
        .arg("-o")
        .arg(case.at("m"));
    fit.args(["--steps", "60", "--dtype", "f64", "--model-config"])
        .arg(case.at("ddnf.toml"));
    fit.assert().success();
    let mut sample = flows();
    sample
        .arg("sample")
        .arg(case.at("m"))
        .args(["-n", "100", "--dtype", "f64"]);
    let output = sample.output().unwrap();
    let (rows, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(rows.lines().count(), 101);
    let lost = rows.lines().filter(|row| row.contains("NaN")).count();
    assert!(lost > 0, "every row was solved");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("error: {lost} of 100 rows could not be drawn")),
        "{said}"
    );
}

#[test]
fn a_field_too_stiff_for_its_cells_is_noted_where_it_is_fitted_and_where_it_scores() {
    let case = Case::new("x,y", 400, |_, a, b| format!("{a},{}", a * a + 0.3 * b));
    case.write(
        "ddnf.toml",
        "kind = 'ddnf'\ndim = 2\nblocks = 1\ncells = 1\nhidden = [32]\n",
    );
    let mut fit = flows();
    fit.arg("fit").arg(case.at("data.csv"));
    fit.arg("-o").arg(case.at("m"));
    fit.args(["--steps", "600", "--model-config"])
        .arg(case.at("ddnf.toml"));
    let note = || contains("note: ").and(contains("field too stiff for T = 1,"));
    fit.assert().success().stderr(note());
    let mut score = flows();
    score
        .arg("log-prob")
        .arg(case.at("m"))
        .arg(case.at("data.csv"));
    score.assert().success().stderr(note());
}
