//! The checkers accept valid concurrent histories and catch every planted fault.

use chaos::checkers::Verdict;
use chaos::dice::Dice;
use chaos::mutations::MUTATIONS;
use chaos::synthetic::generate;

#[test]
fn valid_histories_are_valid() {
    for seed in 0..40 {
        let evidence = generate(seed, 600);
        for report in evidence.check() {
            let trivial = report.checker == "coverage" || report.checker == "process";
            assert!(
                trivial || report.verdict == Verdict::Valid,
                "seed {seed}: {report}"
            );
        }
    }
}

#[test]
fn every_mutation_is_caught_by_the_checkers_it_names() {
    for mutation in MUTATIONS {
        let mut applied = 0;
        for seed in 0..25 {
            let mut evidence = generate(seed, 500);
            if !(mutation.apply)(&mut evidence, &mut Dice::new(seed).fork(1)) {
                continue;
            }
            applied += 1;
            let reports = evidence.check();
            for (checker, anomaly) in mutation.caught_by {
                let report = reports
                    .iter()
                    .find(|report| report.checker == *checker)
                    .unwrap();
                assert_eq!(
                    report.verdict,
                    Verdict::Invalid,
                    "seed {seed}: {} got past {checker}: {report}",
                    mutation.name
                );
                let named = anomaly.is_empty() || report.has(anomaly);
                assert!(named, "seed {seed}: {}: {report}", mutation.name);
            }
        }
        assert!(
            applied >= 10,
            "{} found a place in only {applied} histories",
            mutation.name
        );
    }
}
