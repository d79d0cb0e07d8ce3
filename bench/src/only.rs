//! Which measurements are wanted: the flag `--only`, which all load generators have.

/// Whether a measurement is wanted: it is named, or none is.
pub fn wants(only: &[String], name: &str) -> bool {
    only.is_empty() || only.iter().any(|only| only == name)
}

/// The first name that no measurement has. Measurements come with what they are.
pub fn unknown<'o>(only: &'o [String], measurements: &[(&str, &str)]) -> Option<&'o String> {
    let is_known = |name: &&String| measurements.iter().any(|(known, _)| known == name);
    only.iter().find(|name| !is_known(name))
}
