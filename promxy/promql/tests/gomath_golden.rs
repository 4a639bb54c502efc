//! Compares the functions on floats with bits recorded from Go.
//!
//! The recorded data is read from `$PROMQL_TESTDATA`, by default `shared/golden/promql` beside the workspace; its README says
//! how it was made. Without it the test says so and passes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use promql::gomath;

const FUNCTIONS: [&str; 25] = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "cos", "cosh", "exp",
    "exp2", "floor", "ln", "log10", "log2", "max", "min", "mod", "pow", "sin", "sinh", "sqrt",
    "tan", "tanh",
];

fn number(bits: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(bits, 16).expect("bits are hexadecimal"))
}

/// Calls a function by its recorded name.
fn call(function: &str, x: f64, y: f64) -> f64 {
    match function {
        "acos" => gomath::acos(x),
        "acosh" => gomath::acosh(x),
        "asin" => gomath::asin(x),
        "asinh" => gomath::asinh(x),
        "atan" => gomath::atan(x),
        "atan2" => gomath::atan2(x, y),
        "atanh" => gomath::atanh(x),
        "ceil" => gomath::ceil(x),
        "cos" => gomath::cos(x),
        "cosh" => gomath::cosh(x),
        "exp" => gomath::exp(x),
        "exp2" => gomath::exp2(x),
        "floor" => gomath::floor(x),
        "ln" => gomath::ln(x),
        "log10" => gomath::log10(x),
        "log2" => gomath::log2(x),
        "max" => gomath::max(x, y),
        "min" => gomath::min(x, y),
        "mod" => gomath::modulo(x, y),
        "pow" => gomath::pow(x, y),
        "sin" => gomath::sin(x),
        "sinh" => gomath::sinh(x),
        "sqrt" => gomath::sqrt(x),
        "tan" => gomath::tan(x),
        "tanh" => gomath::tanh(x),
        _ => panic!("no function {function}"),
    }
}

#[test]
fn every_recorded_value_is_equal_bit_for_bit() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/promql");
    let file = std::env::var_os("PROMQL_TESTDATA")
        .map_or(default, PathBuf::from)
        .join("go-math.txt.gz");
    let Ok(file) = File::open(file) else {
        println!("SKIPPED: no recorded floats; set PROMQL_TESTDATA");
        return;
    };
    let mut recorded = String::new();
    GzDecoder::new(file)
        .read_to_string(&mut recorded)
        .expect("the recorded floats are text");
    let (mut counts, mut failures) = (BTreeMap::new(), Vec::new());
    for line in recorded.lines() {
        let [function, x, y, expected] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not four fields: {line}");
        };
        let got = call(function, number(x), if y == "-" { 0.0 } else { number(y) });
        let expected = number(expected);
        *counts.entry(function).or_insert(0) += 1;
        if got.to_bits() != expected.to_bits() && !(got.is_nan() && expected.is_nan()) {
            failures.push(format!("{line}: {got:?} {:016x}", got.to_bits()));
        }
    }
    println!("{counts:?}");
    assert!(counts.keys().eq(&FUNCTIONS), "not all functions");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn any_numbers_have_a_result_near_that_of_the_platform() {
    let random = || f64::from_bits(fastrand::u64(..));
    for _ in 0..200_000 {
        let (x, y) = (random(), random());
        for function in FUNCTIONS {
            call(function, x, y);
        }
        let near = |got: f64, expected: f64| {
            let is_near = got == expected || (got - expected).abs() <= expected.abs() * 1e-13;
            assert!(
                is_near || got.is_nan() && expected.is_nan(),
                "{x:?}, {y:?}: {got:?}, not {expected:?}"
            );
        };
        near(gomath::asinh(x), x.asinh());
        near(gomath::tanh(x), x.tanh());
        if !x.is_subnormal() {
            near(gomath::ln(x), x.ln());
        }
        let small = fastrand::f64() * 80.0 - 40.0;
        near(gomath::atan2(small, 1.0 - small), small.atan2(1.0 - small));
        near(gomath::exp(small), small.exp());
        near(gomath::exp2(small), small.exp2());
        near(gomath::pow(small.abs(), small), small.abs().powf(small));
    }
}

/// What the reference does only on amd64.
#[test]
fn subnormal_logarithms_and_the_largest_powers_are_as_in_the_assembly() {
    assert_eq!(gomath::ln(f64::from_bits(1)), -709.0895657128241);
    assert_eq!(gomath::exp(709.7), f64::INFINITY);
    assert!(gomath::exp(709.4).is_finite());
}
