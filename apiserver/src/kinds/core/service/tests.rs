//! Services: what is wrong with them, in upstream's words, and what stays when they change.

use super::*;
use crate::kinds::testing::{
    Case, cases, changed, conformed, prepared_create, prepared_update, warnings,
};

const GOOD: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"b"},
    "spec":{"type":"ClusterIP","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","2001:db8::1"],
    "ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"RequireDualStack","internalTrafficPolicy":"Cluster",
    "sessionAffinity":"None","selector":{"a":"b"},"ports":[
        {"name":"a","port":80,"protocol":"TCP","targetPort":"http","appProtocol":"example.com/x"},
        {"name":"b","port":81,"protocol":"UDP","targetPort":8080}]}}"#;

const BALANCED: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"b"},
    "spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ipFamilies":["IPv4"],
    "ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster","sessionAffinity":"None",
    "externalTrafficPolicy":"Local","healthCheckNodePort":30000,"allocateLoadBalancerNodePorts":true,
    "loadBalancerClass":"example.com/x","loadBalancerSourceRanges":["10.0.0.0/8"],
    "ports":[{"port":80,"protocol":"TCP","targetPort":80,"nodePort":30001}]},
    "status":{"loadBalancer":{"ingress":[{"ip":"10.1.1.1","ipMode":"VIP"}]}}}"#;

#[test]
fn wrong_fields_are_told() {
    cases(
        &SERVICE,
        GOOD,
        &[
            Case::create("spec ports", "[]", &["spec.ports: Required value"]),
            Case::create(
                "spec ports 0 name",
                r#""""#,
                &["spec.ports[0].name: Required value"],
            ),
            Case::create(
                "spec ports 0 name",
                r#""b""#,
                &[r#"spec.ports[1].name: Duplicate value: "b""#],
            ),
            Case::create(
                "spec ports 0 port",
                "0",
                &["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
            ),
            Case::create(
                "spec ports 0 protocol",
                r#""X""#,
                &[
                    r#"spec.ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP""#,
                ],
            ),
            Case::create(
                "spec ports 0 targetPort",
                r#""a--b""#,
                &[
                    r#"spec.ports[0].targetPort: Invalid value: "a--b": must not contain consecutive hyphens"#,
                ],
            ),
            Case::create(
                "spec ports 1 targetPort",
                "70000",
                &[
                    "spec.ports[1].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                ],
            ),
            Case::create(
                "spec ports 0 nodePort",
                "30000",
                &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
            ),
            Case::create(
                "spec ports 1",
                r#"{"name":"b","port":80,"protocol":"TCP","targetPort":1}"#,
                &[
                    r#"spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#,
                ],
            ),
            Case::create(
                "spec type",
                r#""X""#,
                &[
                    r#"spec.type: Unsupported value: "X": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
                ],
            ),
            Case::create(
                "spec sessionAffinity",
                "-",
                &["spec.sessionAffinity: Required value"],
            ),
            Case::create(
                "spec sessionAffinity",
                r#""ClientIP""#,
                &[
                    "spec.sessionAffinityConfig: Required value: when session affinity type is ClientIP",
                ],
            ),
            Case::create(
                "spec sessionAffinityConfig",
                "{}",
                &[
                    "spec.sessionAffinityConfig: Forbidden: must not be set when session affinity is None",
                ],
            ),
            Case::create(
                "spec clusterIP",
                r#""10.0.0.2""#,
                &[
                    r#"spec.clusterIPs: Invalid value: ["10.0.0.1","2001:db8::1"]: first value must match `clusterIP`"#,
                ],
            ),
            Case::create(
                "spec clusterIPs 1",
                r#""010.0.0.2""#,
                &[r#"spec.clusterIPs[1]: Invalid value: "010.0.0.2": must not have leading 0s"#],
            ),
            Case::create(
                "spec clusterIPs 1",
                r#""10.0.0.2""#,
                &[
                    r#"spec.clusterIPs: Invalid value: ["10.0.0.1","10.0.0.2"]: may specify no more than one IP for each IP family"#,
                    r#"spec.clusterIPs[1]: Invalid value: "10.0.0.2": expected an IPv6 value as indicated by `ipFamilies[1]`"#,
                ],
            ),
            Case::create(
                "spec ipFamilies 1",
                r#""IPv4""#,
                &[
                    r#"spec.ipFamilies[1]: Duplicate value: "IPv4""#,
                    r#"spec.clusterIPs[1]: Invalid value: "2001:db8::1": expected an IPv4 value as indicated by `ipFamilies[1]`"#,
                ],
            ),
            Case::create(
                "spec ipFamilyPolicy",
                r#""x""#,
                &[
                    r#"spec.ipFamilyPolicy: Unsupported value: "x": supported values: "PreferDualStack", "RequireDualStack", "SingleStack""#,
                ],
            ),
            Case::create(
                "spec externalIPs",
                r#"["127.0.0.1"]"#,
                &[
                    r#"spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
                    "spec.externalTrafficPolicy: Required value",
                ],
            ),
            Case::create(
                "spec loadBalancerSourceRanges",
                r#"[" 10.0.0.0/33"]"#,
                &[
                    "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                    r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
                ],
            ),
            Case::create(
                "spec externalTrafficPolicy",
                r#""Local""#,
                &[
                    r#"spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services"#,
                ],
            ),
            Case::create(
                "spec internalTrafficPolicy",
                "-",
                &["spec.internalTrafficPolicy: Required value"],
            ),
            Case::create(
                "spec trafficDistribution",
                r#""x""#,
                &[
                    r#"spec.trafficDistribution: Unsupported value: "x": supported values: "PreferClose", "PreferSameZone", "PreferSameNode""#,
                ],
            ),
            Case::update(
                "spec clusterIPs 1",
                r#""2001:db8::2""#,
                &[
                    r#"spec.clusterIPs[1]: Invalid value: ["10.0.0.1","2001:db8::2"]: may not change once set"#,
                ],
            ),
            Case::update(
                "spec clusterIPs",
                r#"["10.0.0.1"]"#,
                &[
                    r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be set to 'SingleStack' when releasing the secondary clusterIP"#,
                ],
            ),
            Case::update(
                "spec ipFamilies",
                r#"["IPv4"]"#,
                &[
                    r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be set to 'SingleStack' when releasing the secondary ipFamily"#,
                ],
            ),
        ],
    );
}

#[test]
fn wrong_balancers_are_told() {
    cases(
        &SERVICE,
        BALANCED,
        &[
            Case::create(
                "spec healthCheckNodePort",
                "-",
                &["spec.healthCheckNodePort: Required value"],
            ),
            Case::create(
                "spec allocateLoadBalancerNodePorts",
                "-",
                &["allocateLoadBalancerNodePorts: Required value"],
            ),
            Case::create(
                "spec externalTrafficPolicy",
                r#""Cluster""#,
                &[
                    "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
                ],
            ),
            Case::create(
                "spec clusterIPs",
                r#"["None"]"#,
                &[
                    r#"spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for LoadBalancer services"#,
                    r#"spec.clusterIPs: Invalid value: ["None"]: first value must match `clusterIP`"#,
                ],
            ),
            Case::update(
                "spec healthCheckNodePort",
                "30005",
                &["spec.healthCheckNodePort: Forbidden: field is immutable"],
            ),
            Case::update(
                "spec loadBalancerClass",
                r#""x/y""#,
                &[r#"spec.loadBalancerClass: Invalid value: "x/y": may not change once set"#],
            ),
            Case::sub(
                "status",
                "status loadBalancer ingress 0 ipMode",
                "-",
                &[
                    "status.loadBalancer.ingress[0].ipMode: Required value: must be specified when `ip` is set",
                ],
            ),
            Case::sub(
                "status",
                "status loadBalancer ingress 0",
                r#"{"hostname":"1.2.3.4"}"#,
                &[
                    r#"status.loadBalancer.ingress[0].hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address"#,
                ],
            ),
            Case::sub(
                "status",
                "spec type",
                r#""NodePort""#,
                &[
                    "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'",
                ],
            ),
        ],
    );
}

#[test]
fn services_by_name_have_no_addresses() {
    let by_name = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},
        "spec":{"type":"ExternalName","externalName":"example.com.","sessionAffinity":"None"}}"#;
    cases(
        &SERVICE,
        by_name,
        &[
            Case::create(
                "spec externalName",
                "-",
                &["spec.externalName: Required value"],
            ),
            Case::create(
                "spec clusterIPs",
                r#"["10.0.0.1"]"#,
                &["spec.clusterIPs: Forbidden: may not be set for ExternalName services"],
            ),
            Case::create(
                "spec externalName",
                r#""a_b""#,
                &[r#"spec.externalName: Invalid value: "a_b": a lowercase RFC 1123 subdomain …"#],
            ),
        ],
    );
}

#[test]
fn what_was_allocated_is_taken_over_and_dropped_by_type() {
    let made = prepared_create(
        &SERVICE,
        r#"{"spec":{"type":"ClusterIP","clusterIP":"None"}}"#,
    );
    assert_eq!(
        made.root()
            .path(&["spec", "clusterIPs"])
            .unwrap()
            .to_string(),
        r#"["None"]"#
    );
    let blank =
        r#"{"spec":{"type":"LoadBalancer","externalTrafficPolicy":"Local","ports":[{"port":80}]}}"#;
    let made = prepared_update(&SERVICE, "", blank, BALANCED);
    let spec = At::root(&made).get("spec");
    assert_eq!(spec.get("clusterIP").str(), "10.0.0.1");
    assert_eq!(spec.get("clusterIPs").len(), 1);
    assert_eq!(spec.get("healthCheckNodePort").int(), 30000);
    assert_eq!(
        spec.get("ports")
            .items()
            .next()
            .unwrap()
            .get("nodePort")
            .int(),
        30001
    );
    let good = changed(&conformed(BALANCED), "spec type", r#""ClusterIP""#);
    let made = prepared_update(&SERVICE, "", &good.to_string(), BALANCED);
    let spec = At::root(&made).get("spec");
    for field in [
        "healthCheckNodePort",
        "allocateLoadBalancerNodePorts",
        "loadBalancerClass",
        "externalTrafficPolicy",
    ] {
        assert!(!spec.has(field), "{field}");
    }
    assert!(!spec.get("ports").items().next().unwrap().has("nodePort"));
    assert!(spec.has("clusterIP") && At::root(&made).path(&["status", "loadBalancer"]).is_empty());
}

#[test]
fn deprecated_uses_are_warned_of() {
    let service = r#"{"spec":{"type":"ClusterIP","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"externalIPs":["010.0.0.1"],"trafficDistribution":"PreferClose"}}"#;
    assert_eq!(
        warnings(&SERVICE, service, None),
        [
            r#"spec.externalIPs[0]: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1""#,
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#,
        ]
    );
}
