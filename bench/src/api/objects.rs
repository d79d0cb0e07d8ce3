//! What is written: objects of realistic sizes.

/// A small ConfigMap.
pub(crate) fn config_map(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"key":"value"}}}}"#
    )
}

/// A ConfigMap that is about a kilobyte as an event.
pub(crate) fn kilobyte(name: &str) -> String {
    let filling = "x".repeat(650);
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"key":"{filling}"}}}}"#
    )
}

/// A pod of about 3.5 kB once it has its defaults.
pub(crate) fn pod(name: &str) -> String {
    let variables: Vec<String> = (0..8)
        .map(|n| format!(r#"{{"name":"VARIABLE_{n}","value":"a value of usual length {n}"}}"#))
        .collect();
    let variables = variables.join(",");
    let container = |name: &str| {
        format!(
            r#"{{"name":"{name}","image":"registry.example/team/{name}:1.2.3","env":[{variables}],"resources":{{"requests":{{"cpu":"100m","memory":"128Mi"}},"limits":{{"cpu":"1","memory":"256Mi"}}}},"ports":[{{"containerPort":8080}}],"readinessProbe":{{"httpGet":{{"path":"/healthz","port":8080}}}},"livenessProbe":{{"httpGet":{{"path":"/healthz","port":8080}}}}}}"#
        )
    };
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","labels":{{"app":"web","tier":"front","version":"v1"}},"annotations":{{"note":"made by the load generator"}}}},"spec":{{"containers":[{}],"nodeSelector":{{"disk":"ssd"}}}}}}"#,
        container("app"),
    )
}
