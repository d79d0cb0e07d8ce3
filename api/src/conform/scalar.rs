//! Scalars take their canonical form; one that has it already is left alone.

use super::{Maybe, Pass, TypeError};
use crate::codec::json;
use crate::doc::{Doc, Id, Kind, New};
use crate::schema::Shape;
use crate::values::time::{self, Precision};
use crate::values::{Quantity, base64, duration};

impl Pass<'_> {
    pub(super) fn scalar(&mut self, id: Id, shape: &Shape, at: Maybe<'_>) -> Result<(), TypeError> {
        let kind = self.doc.cell(id).kind;
        match (shape, kind) {
            (Shape::String, Kind::String) | (Shape::Bool, Kind::True | Kind::False) => Ok(()),
            (Shape::Int32 | Shape::Int64, Kind::Int | Kind::Number) => self.integer(id, shape, at),
            (Shape::Float, Kind::Int) => Ok(()),
            (Shape::Float, Kind::Number) => self.float(id, shape, at),
            (Shape::Bytes, Kind::String) => self.bytes(id),
            // What sets no time is null wherever it stands.
            (Shape::Bytes | Shape::Time | Shape::MicroTime, Kind::Null) => Ok(()),
            (Shape::Time, Kind::String) => self.time(id, Precision::Seconds),
            (Shape::MicroTime, Kind::String) => self.time(id, Precision::Micros),
            (Shape::Duration, Kind::String) => self.duration(id),
            (Shape::Time | Shape::MicroTime | Shape::Duration, _) => {
                Err(self.mismatch(id, None, "string"))
            }
            (Shape::Quantity, _) => self.quantity(id),
            (Shape::IntOrString, Kind::String) => Ok(()),
            (Shape::IntOrString, _) => match self.doc.node(id).as_i64() {
                Some(value) if i32::try_from(value).is_ok() => Ok(()),
                Some(value) => {
                    Err(self.cannot_unmarshal(&format!("number {value}"), None, "int32"))
                }
                None => match self.doc.node(id).as_number() {
                    Some(text) => {
                        let value = format!("number {text}");
                        Err(self.cannot_unmarshal(&value, None, "int32"))
                    }
                    None => Err(self.mismatch(id, None, "int32")),
                },
            },
            _ => Err(self.mismatch_shape(id, at, shape)),
        }
    }

    fn integer(&mut self, id: Id, shape: &Shape, at: Maybe<'_>) -> Result<(), TypeError> {
        let node = self.doc.node(id);
        let fits = node.as_i64().is_some_and(|value| match shape {
            Shape::Int32 => i32::try_from(value).is_ok(),
            _ => true,
        });
        if fits {
            return Ok(());
        }
        if node.as_number() == Some("-0") {
            self.doc.assign(id, New::Int(0));
            return Ok(());
        }
        let go_type = crate::schema::GoType {
            shape,
            field: at.map(|place| place.field),
        };
        Err(self.cannot_unmarshal(&format!("number {node}"), at, &go_type.to_string()))
    }

    fn float(&mut self, id: Id, shape: &Shape, at: Maybe<'_>) -> Result<(), TypeError> {
        let node = self.doc.node(id);
        let Some(value) = node.as_f64().filter(|value| value.is_finite()) else {
            let go_type = crate::schema::GoType {
                shape,
                field: at.map(|place| place.field),
            };
            return Err(self.cannot_unmarshal(&format!("number {node}"), at, &go_type.to_string()));
        };
        set_float(self.doc, id, value);
        Ok(())
    }

    fn bytes(&mut self, id: Id) -> Result<(), TypeError> {
        let text = self.doc.node(id).as_str().unwrap_or_default();
        let bytes = base64::decode(text).map_err(|error| TypeError(error.to_string()))?;
        if text.len() != bytes.len().div_ceil(3) * 4 {
            let mut canonical = String::new();
            base64::encode(&bytes, &mut canonical);
            self.overwrite(id, Kind::String, &canonical);
        }
        Ok(())
    }

    fn time(&mut self, id: Id, precision: Precision) -> Result<(), TypeError> {
        let text = self.doc.node(id).as_str().unwrap_or_default();
        let moment = time::parse(text, precision).map_err(|error| TypeError(error.to_string()))?;
        if moment == time::UNSET {
            self.doc.assign(id, New::Null);
            return Ok(());
        }
        let length = if precision == Precision::Seconds {
            20
        } else {
            27
        };
        if text.len() != length || !text.ends_with('Z') || text.contains(',') {
            let mut canonical = String::new();
            time::write(moment, precision, &mut canonical);
            self.overwrite(id, Kind::String, &canonical);
        }
        Ok(())
    }

    fn duration(&mut self, id: Id) -> Result<(), TypeError> {
        let text = self.doc.node(id).as_str().unwrap_or_default();
        let nanos = duration::parse(text).map_err(|error| TypeError(error.to_string()))?;
        let canonical = duration::format(nanos);
        if canonical != text {
            self.overwrite(id, Kind::String, &canonical);
        }
        Ok(())
    }

    fn quantity(&mut self, id: Id) -> Result<(), TypeError> {
        let node = self.doc.node(id);
        let written;
        let text = match node.as_str() {
            Some(text) => text,
            None => {
                written = node.to_string();
                &written
            }
        };
        // Most are a few digits and a suffix that is kept as it is.
        let parsed = Quantity::parse(text.trim()).map_err(|error| TypeError(error.to_string()))?;
        if node.kind() == Kind::String && parsed.is_written_as(text) {
            return Ok(());
        }
        let canonical = parsed.to_string();
        if node.as_str() != Some(&canonical) {
            self.overwrite(id, Kind::String, &canonical);
        }
        Ok(())
    }
}

/// Writes a float as Go does: an integral one looks like an integer.
pub(crate) fn set_float(doc: &mut Doc, id: Id, value: f64) {
    let text = json::float(value);
    match text.parse::<i64>() {
        Ok(integer) if text != "-0" => doc.assign(id, New::Int(integer)),
        _ => doc.assign(id, New::Number(&text)),
    }
}
