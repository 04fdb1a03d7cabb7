//! What a field of a text table says: a number, nothing, or something else, in words that help.

use std::borrow::Cow;

use crate::source::Bad;

/// Marks of a missing value, in any case of letters: of people, Python, R, SQL and spreadsheets.
const MISSING: [&str; 14] = [
    "", "NA", "N/A", "NaN", "null", "None", "?", "#N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?",
    "#NUM!", "#NULL!",
];

/// Marks between groups of three digits, besides the comma.
const GROUPS: [char; 8] = [
    '.', ' ', '\u{a0}', '\u{202f}', '\u{2009}', '\'', '\u{2019}', '_',
];

pub(super) fn is_missing(field: &[u8]) -> bool {
    let field = field.trim_ascii();
    MISSING
        .iter()
        .any(|mark| field.eq_ignore_ascii_case(mark.as_bytes()))
}

/// A number, or one in a notation that is not read.
pub(super) fn like_number(field: &[u8]) -> bool {
    match number(field, b',', false) {
        Ok(_) => true,
        Err(Bad::Missing) => false,
        Err(Bad::Unusable(_)) => {
            let text = String::from_utf8_lossy(field);
            text.trim().parse::<f64>().is_ok() || notation(text.trim(), b',').is_some()
        }
    }
}

/// The field as messages show it.
pub(super) fn shown(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    text.trim().escape_debug().take(40).collect()
}

/// The number in a field of a table with this separator.
pub(super) fn number(field: &[u8], separator: u8, decimal_comma: bool) -> Result<f64, Bad> {
    let field = field.trim_ascii();
    let text = String::from_utf8_lossy(field);
    let mut text = Cow::Borrowed(text.trim());
    if decimal_comma && text.contains(',') && !text.contains('.') {
        text = Cow::Owned(text.replacen(',', ".", 1));
    }
    match text.parse::<f64>().ok().or_else(|| foreign(&text)) {
        Some(number) if number.is_finite() => Ok(number),
        _ if is_missing(field) => Err(Bad::Missing),
        Some(number) if number.is_nan() => Err(Bad::Missing),
        Some(_) => Err(Bad::Unusable(format!("'{}' is not finite", shown(field)))),
        None => {
            let problem = notation(text.trim(), separator);
            let problem = problem.unwrap_or_else(|| "is not a number".to_owned());
            Err(Bad::Unusable(format!("'{}' {problem}", shown(field))))
        }
    }
}

/// Notations that stand for one number only: the minus of typesetters, and Fortran's `1.5D-03`.
fn foreign(text: &str) -> Option<f64> {
    let text = text.replace('\u{2212}', "-");
    text.replace("D+", "E+").replace("D-", "E-").parse().ok()
}

/// What keeps a number from being read, where there is one.
fn notation(text: &str, separator: u8) -> Option<String> {
    let grouped = |group: char| {
        let digits = text.trim_start_matches(['+', '-']);
        let whole = digits.split(['.', ',']).next().unwrap_or(digits);
        let whole = if group == ',' {
            digits.split('.').next()?
        } else if group == '.' {
            digits.split(',').next()?
        } else {
            whole
        };
        let mut parts = whole.split(group);
        let first = parts.next()?;
        let rest: Vec<&str> = parts.collect();
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let fits = (1..=3).contains(&first.len())
            && all_digits(first)
            && !first.starts_with('0')
            && !rest.is_empty()
            && rest.iter().all(|part| part.len() == 3 && all_digits(part));
        let plain = text.replace(group, "").replace(',', ".");
        (fits && plain.parse::<f64>().is_ok()).then_some(plain)
    };
    let comma = text.matches(',').count() == 1 && text.replace(',', ".").parse::<f64>().is_ok();
    let decimal = "has a decimal comma; add --decimal-comma";
    match grouped(',') {
        Some(plain) if comma && separator != b',' => Some(format!(
            "has a thousands separator (write {plain}) or a decimal comma (add --decimal-comma)"
        )),
        Some(plain) => Some(format!("has a thousands separator; write {plain}")),
        None if comma => Some(decimal.to_owned()),
        None => {
            let plain = GROUPS.into_iter().find_map(grouped)?;
            Some(format!("has a thousands separator; write {plain}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str, separator: u8) -> String {
        match number(text.as_bytes(), separator, false) {
            Ok(number) => number.to_string(),
            Err(Bad::Missing) => "missing".to_owned(),
            Err(Bad::Unusable(problem)) => problem,
        }
    }

    #[test]
    fn notations_of_numbers_are_read_or_named() {
        let cases = [
            ("\u{2212}0.5", "-0.5"),
            ("1.5D-01", "0.15"),
            ("+0010.50", "10.5"),
            ("1D3", "'1D3' is not a number"),
            ("0,37", "'0,37' has a decimal comma; add --decimal-comma"),
            ("1,037", "'1,037' has a thousands separator; write 1037"),
            (
                "-1,000.5",
                "'-1,000.5' has a thousands separator; write -1000.5",
            ),
            (
                "1\u{a0}000",
                "'1\\u{a0}000' has a thousands separator; write 1000",
            ),
            (
                "1'000.5",
                "'1\\'000.5' has a thousands separator; write 1000.5",
            ),
            (
                "1.000,5",
                "'1.000,5' has a thousands separator; write 1000.5",
            ),
            ("12.03.2024", "'12.03.2024' is not a number"),
            ("#N/A", "missing"),
            ("#DIV/0!", "missing"),
            ("#17", "'#17' is not a number"),
            ("-inf", "'-inf' is not finite"),
        ];
        for (text, expected) in cases {
            assert_eq!(problem(text, b','), expected);
        }
        let either = "'1,037' has a thousands separator (write 1037) or a decimal comma (add --decimal-comma)";
        assert_eq!(problem("1,037", b';'), either);
        assert!(matches!(number(b"0,37", b';', true), Ok(0.37)));
        assert!(matches!(
            number(b"1.000,5", b';', true),
            Err(Bad::Unusable(_))
        ));
    }
}
