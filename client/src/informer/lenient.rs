//! Objects as upstream's clients write them: Go writes the zero value of a time or a list as null,
//! also where the schema wants a value.

use serde::de::DeserializeOwned;
use serde_json::{Result, Value};

/// The one time that types demand, and what null stands for there.
const DEMANDED: (&str, &str) = ("lastTransitionTime", "0001-01-01T00:00:00Z");

/// Reads JSON; where a type does not bear it, what is null is absent, or the zero value.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).or_else(|error| {
        let mut value = serde_json::from_slice(bytes)?;
        drop_nulls(&mut value);
        // What the bytes themselves are refused for says more.
        serde_json::from_value(value).map_err(|_| error)
    })
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(time @ Value::Null) = fields.get_mut(DEMANDED.0) {
                *time = DEMANDED.1.into();
            }
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde::Deserialize;

    use super::*;
    use crate::reflector::Event;

    #[test]
    fn what_go_writes_for_nothing_is_nothing() {
        #[derive(Deserialize)]
        struct Spec {
            #[serde(default)]
            drivers: Vec<String>,
        }
        let spec = br#"{"drivers":null}"#;
        assert!(serde_json::from_slice::<Spec>(spec).is_err());
        assert!(read::<Spec>(spec).unwrap().drivers.is_empty());
        let event = br#"{"type":"ADDED","object":{"metadata":{"name":"s"},"status":{"conditions":[
            {"type":"t","status":"True","lastTransitionTime":null,"reason":"r","message":""}]}}}"#;
        let Event::Added(service) = read::<Event<Service>>(event).unwrap() else {
            panic!("another event");
        };
        let conditions = service.status.unwrap().conditions.unwrap();
        assert_eq!(conditions[0].last_transition_time.0.to_string(), DEMANDED.1);
        let wrong = br#"{"metadata":{"name":7}}"#;
        let error = read::<Service>(wrong).unwrap_err().to_string();
        assert!(error.contains("column"), "{error}");
    }
}
