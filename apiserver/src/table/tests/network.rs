//! Services, endpoints, ingresses; volumes and devices.

use super::{check, row};

#[test]
fn services_and_endpoints() {
    let service = |spec: &str, ingress: &str| {
        let text = format!(
            r#"{{"metadata":{{"name":"s"}},"spec":{{{spec}}},"status":{{"loadBalancer":{{"ingress":[{ingress}]}}}}}}"#
        );
        row("v1 Service", &text)
    };
    let balanced = r#""type":"LoadBalancer","clusterIPs":["10.9.8.7"],"ports":[{"port":8888,"protocol":"TCP"}]"#;
    for (spec, ingress, want) in [
        (
            r#""type":"ClusterIP","clusterIPs":["10.9.8.7","::1"],"selector":{"foo":"bar"},"ports":[{"port":2233,"protocol":"TCP"},{"port":80,"nodePort":9999,"protocol":"UDP"}]"#,
            "",
            r#"["s","ClusterIP","10.9.8.7","<none>","2233/TCP,80:9999/UDP","<unknown>","foo=bar"]"#,
        ),
        (
            r#""type":"NodePort","clusterIPs":["1.2.3.4"],"externalIPs":["9.9.9.9","8.8.8.8"]"#,
            "",
            r#"["s","NodePort","1.2.3.4","9.9.9.9,8.8.8.8","<none>","<unknown>","<none>"]"#,
        ),
        (
            balanced,
            "",
            r#"["s","LoadBalancer","10.9.8.7","<pending>","8888/TCP","<unknown>","<none>"]"#,
        ),
        (
            balanced,
            r#"{"ip":"5.6.7.8","hostname":"h"},{"ip":"2.3.4.5"},{"hostname":"host"}"#,
            r#"["s","LoadBalancer","10.9.8.7","2.3.4.5,5.6.7.8,host","8888/TCP","<unknown>","<none>"]"#,
        ),
        (
            &format!(r#"{balanced},"externalIPs":["80.11.12.10"]"#),
            r#"{"ip":"3.4.5.6"}"#,
            r#"["s","LoadBalancer","10.9.8.7","3.4.5.6,80.11.12.10","8888/TCP","<unknown>","<none>"]"#,
        ),
        (
            r#""type":"ExternalName","externalName":"db.example.com""#,
            "",
            r#"["s","ExternalName","<none>","db.example.com","<none>","<unknown>","<none>"]"#,
        ),
        (
            r#""type":"X""#,
            "",
            r#"["s","X","<none>","<unknown>","<none>","<unknown>","<none>"]"#,
        ),
    ] {
        assert_eq!(service(spec, ingress), want, "{spec}");
    }
    check(
        "v1 Endpoints",
        &[
            (
                r#"{"metadata":{"name":"e"}}"#,
                r#"["e","<none>","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"e"},"subsets":[{"addresses":[{"ip":"1.2.3.4"},{"ip":"5.6.7.8"}]}]}"#,
                r#"["e","1.2.3.4,5.6.7.8","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"e"},"subsets":[{"addresses":[{"ip":"1.2.3.4"},{"ip":"::1"},{"ip":"9.8.7.6"},{"ip":"6.6.6.6"}],"ports":[{"port":8001}]}]}"#,
                r#"["e","1.2.3.4:8001,[::1]:8001,9.8.7.6:8001 + 1 more...","<unknown>"]"#,
            ),
        ],
    );
    check(
        "discovery.k8s.io/v1 EndpointSlice",
        &[
            (
                r#"{"metadata":{"name":"e"},"addressType":"IPv4","ports":[{"name":"http","port":80},{"name":"https"},{}],"endpoints":[{"addresses":["10.1.2.3","2001:db8::1"]},{"addresses":["10.2.3.4","10.2.3.5"]}]}"#,
                r#"["e","IPv4","80,https,*","10.1.2.3,2001:db8::1,10.2.3.4 + 1 more...","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"e"},"addressType":"IPv4","ports":null,"endpoints":[]}"#,
                r#"["e","IPv4","<unset>","<unset>","<unknown>"]"#,
            ),
        ],
    );
}

#[test]
fn ingresses_and_networks() {
    check(
        "networking.k8s.io/v1 Ingress",
        &[
            (
                r#"{"metadata":{"name":"i"},"spec":{"ingressClassName":"foo"},"status":{"loadBalancer":{"ingress":[{"ip":"2.3.4.5"}]}}}"#,
                r#"["i","foo","*","2.3.4.5","80","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"i"},"spec":{"tls":[{}],"rules":[{"host":"a"},{},{"host":"b"},{"host":"c"},{"host":"d"}]}}"#,
                r#"["i","<none>","a,b,c + 2 more...","","80, 443","<unknown>"]"#,
            ),
        ],
    );
    check(
        "networking.k8s.io/v1 IngressClass",
        &[
            (
                r#"{"metadata":{"name":"c"},"spec":{"controller":"x","parameters":{"kind":"k","apiGroup":"example.com","name":"n"}}}"#,
                r#"["c","x","k.example.com/n","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"c","annotations":{"ingressclass.kubernetes.io/is-default-class":"true"}},"spec":{"controller":"x"}}"#,
                r#"["c (default)","x","<none>","<unknown>"]"#,
            ),
        ],
    );
    check(
        "networking.k8s.io/v1 NetworkPolicy",
        &[
            (
                r#"{"metadata":{"name":"p"},"spec":{"podSelector":{}}}"#,
                r#"["p","<none>","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"p"},"spec":{"podSelector":{"matchLabels":{"foo":"bar"}}}}"#,
                r#"["p","foo=bar","<unknown>"]"#,
            ),
        ],
    );
    check(
        "networking.k8s.io/v1 ServiceCIDR",
        &[(
            r#"{"metadata":{"name":"c"},"spec":{"cidrs":["10.0.0.0/8","fd00::/64"]}}"#,
            r#"["c","10.0.0.0/8,fd00::/64","<unknown>"]"#,
        )],
    );
    check(
        "networking.k8s.io/v1 IPAddress",
        &[
            (
                r#"{"metadata":{"name":"a"},"spec":{"parentRef":{"group":"mygroup","resource":"myresource","namespace":"mynamespace","name":"myname"}}}"#,
                r#"["a","myresource.mygroup/mynamespace/myname","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"a"},"spec":{"parentRef":{"resource":"services","name":"n"}}}"#,
                r#"["a","services/n","<unknown>"]"#,
            ),
        ],
    );
}

#[test]
fn volumes() {
    check(
        "v1 PersistentVolume",
        &[
            (
                r#"{"metadata":{"name":"v"},"spec":{"claimRef":{"namespace":"default","name":"test"},"accessModes":["ReadOnlyMany"],"capacity":{"storage":"4Gi"}},"status":{"phase":"Bound"}}"#,
                r#"["v","4Gi","ROX","","Bound","default/test","","<unset>","","<unknown>","<unset>"]"#,
            ),
            (
                r#"{"metadata":{"name":"v","deletionTimestamp":"@0@","annotations":{"volume.beta.kubernetes.io/storage-class":"beta"}},"spec":{"storageClassName":"c","accessModes":["ReadWriteMany","ReadWriteOnce"],"persistentVolumeReclaimPolicy":"Retain","volumeAttributesClassName":"vac","volumeMode":"Block"},"status":{"phase":"Bound","reason":"r"}}"#,
                r#"["v","0","RWO,RWX","Retain","Terminating","","beta","vac","r","<unknown>","Block"]"#,
            ),
        ],
    );
    check(
        "v1 PersistentVolumeClaim",
        &[
            (
                r#"{"metadata":{"name":"c"},"spec":{"volumeName":"v","volumeMode":"Filesystem","storageClassName":"sc"},"status":{"phase":"Bound","accessModes":["ReadOnlyMany"],"capacity":{"storage":"4Gi"}}}"#,
                r#"["c","Bound","v","4Gi","ROX","sc","<unset>","<unknown>","Filesystem"]"#,
            ),
            (
                r#"{"metadata":{"name":"c"},"spec":{"volumeMode":"Filesystem"},"status":{"phase":"Lost","accessModes":["ReadOnlyMany"],"capacity":{"storage":"4Gi"}}}"#,
                r#"["c","Lost","","","","","<unset>","<unknown>","Filesystem"]"#,
            ),
        ],
    );
    check(
        "storage.k8s.io/v1 StorageClass",
        &[
            (
                r#"{"metadata":{"name":"s"},"provisioner":"p"}"#,
                r#"["s","p","Delete","Immediate",false,"<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"s","annotations":{"storageclass.kubernetes.io/is-default-class":"true"}},"provisioner":"p","reclaimPolicy":"Retain","volumeBindingMode":"WaitForFirstConsumer","allowVolumeExpansion":true}"#,
                r#"["s (default)","p","Retain","WaitForFirstConsumer",true,"<unknown>"]"#,
            ),
        ],
    );
    check(
        "storage.k8s.io/v1 CSIDriver",
        &[
            (
                r#"{"metadata":{"name":"d"},"spec":{}}"#,
                r#"["d",true,false,false,"<unset>",false,"<none>","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"d"},"spec":{"attachRequired":false,"tokenRequests":[{"audience":"a"},{"audience":""}],"volumeLifecycleModes":["Persistent","Ephemeral"]}}"#,
                r#"["d",false,false,false,"a,",false,"Persistent,Ephemeral","<unknown>"]"#,
            ),
        ],
    );
    check(
        "resource.k8s.io/v1 ResourceClaim",
        &[
            (
                r#"{"metadata":{"name":"c"}}"#,
                r#"["c","pending","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"c"},"status":{"allocation":{},"reservedFor":[{}]}}"#,
                r#"["c","allocated,reserved","<unknown>"]"#,
            ),
            (
                r#"{"metadata":{"name":"c","deletionTimestamp":"@0@"}}"#,
                r#"["c","deleted","<unknown>"]"#,
            ),
        ],
    );
}
