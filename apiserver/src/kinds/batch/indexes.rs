//! Sets of indexes such as `1,3-5`, rising.

/// How many there are.
///
/// # Errors
///
/// If the text is no such set, or has an index that is not below `completions`: in upstream's words.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let mut total = 0;
    let mut last: Option<i64> = None;
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!(
                "non-increasing order, previous: {last}, current: {first}"
            ));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that is in both of two rising sets. Parts that are wrong are passed over.
pub(super) fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        let parts = text.split(',');
        parts
            .filter_map(|part| interval(part, completions).ok())
            .collect()
    };
    let (ones, others) = (intervals(one), intervals(other));
    let (mut at, mut other_at) = (0, 0);
    while let (Some(one), Some(other)) = (ones.get(at), others.get(other_at)) {
        if one.0 <= other.1 && other.0 <= one.1 {
            return Some(one.0.max(other.0));
        }
        if one.0 <= other.0 {
            at += 1;
        } else {
            other_at += 1;
        }
    }
    None
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| {
        let index: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        match index < completions {
            true => Ok(index),
            false => Err(format!("too large index: {text:?}")),
        }
    };
    match text.split('-').collect::<Vec<_>>()[..] {
        [only] => index(only).map(|index| (index, index)),
        [first, last] => {
            let (first, last) = (index(first)?, index(last)?);
            if first >= last {
                return Err(format!(
                    "non-increasing order, previous: {first}, current: {last}"
                ));
            }
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most \
             two parts separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_counted() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        for (text, want) in [
            ("x", r#"cannot convert string to integer for index: "x""#),
            ("5", r#"too large index: "5""#),
            ("3-2", "non-increasing order, previous: 3, current: 2"),
            ("2,1", "non-increasing order, previous: 2, current: 1"),
            (
                "1-2-3",
                r#"the fragment "1-2-3" violates the requirement that an index interval can have at most two parts separated by '-'"#,
            ),
        ] {
            assert_eq!(count(text, 5).unwrap_err(), want);
        }
        assert_eq!(overlap("0-2,4", "3,4", 9), Some(4));
        assert_eq!(overlap("0-2,4", "3,5-7", 9), None);
    }
}
