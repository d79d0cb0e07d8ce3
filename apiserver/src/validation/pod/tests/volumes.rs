//! Volumes: what is wrong with them, and that every source can be good.

use super::*;

#[test]
fn volumes() {
    cases(
        &Pod,
        GOOD,
        &[
            create(
                "spec volumes 0 name",
                r#""w""#,
                &[
                    r#"spec.volumes[1].name: Duplicate value: "w""#,
                    r#"spec.containers[0].volumeMounts[0].name: Not found: "v""#,
                    r#"spec.containers[0].volumeDevices[0].name: Invalid value: "w": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"#,
                ],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x"}"#,
                &["spec.volumes[3]: Required value: must specify a volume type"],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x","emptyDir":{},"nfs":{"server":"s","path":"/p"}}"#,
                &["spec.volumes[3].nfs: Forbidden: may not specify more than 1 volume type"],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x","hostPath":{"path":"/a/../b"}}"#,
                &[
                    r#"spec.volumes[3].hostPath.path: Invalid value: "/a/../b": must not contain '..'"#,
                ],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x","hostPath":{"path":"/a","type":"x"}}"#,
                &[
                    r#"spec.volumes[3].hostPath.type: Unsupported value: "x": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket""#,
                ],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x","gcePersistentDisk":{"pdName":""}}"#,
                &["spec.volumes[3].persistentDisk.pdName: Required value"],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x","secret":{"secretName":"s","defaultMode":512}}"#,
                &[
                    "spec.volumes[3].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                ],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x","configMap":{"name":"m","items":[{"key":"k","path":"..x"}]}}"#,
                &[
                    r#"spec.volumes[3].configMap.items[0].path: Invalid value: "..x": must not start with '..'"#,
                ],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x","nfs":{"server":"s","path":"p"}}"#,
                &[r#"spec.volumes[3].nfs.path: Invalid value: "p": must be an absolute path"#],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x","iscsi":{"targetPortal":"t","iqn":"foo","lun":0}}"#,
                &[
                    r#"spec.volumes[3].iscsi.iqn: Invalid value: "foo": must be valid format starting with iqn, eui, or naa"#,
                ],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x","csi":{"driver":"A_b"}}"#,
                &[
                    r#"spec.volumes[3].csi.driver: Invalid value: "A_b": a lowercase RFC 1123 subdomain…"#,
                ],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x","downwardAPI":{"items":[{"path":"p"}]}}"#,
                &[
                    "spec.volumes[3].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
                ],
            ),
            create(
                "spec volumes 3",
                r#"{"name":"x","ephemeral":{"volumeClaimTemplate":{"metadata":{"name":"n"},"spec":{"resources":{}}}}}"#,
                &[
                    "spec.volumes[3].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
                    "spec.volumes[3].ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required",
                    "spec.volumes[3].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
                ],
            ),
            create(
                "spec volumes 2 projected sources 0 serviceAccountToken expirationSeconds",
                "1",
                &[
                    "spec.volumes[2].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
                ],
            ),
            create(
                "spec volumes 2 projected sources 1 configMap items 0 path",
                r#""ns""#,
                &[r#"spec.volumes[2].projected: Invalid value: "ns": conflicting duplicate paths"#],
            ),
            create(
                "spec serviceAccountName",
                r#""""#,
                &[
                    "spec.volumes[2].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
                ],
            ),
        ],
    );
}

#[test]
fn every_source_of_a_volume_can_be_good() {
    for source in [
        r#""emptyDir":{"sizeLimit":"1Gi"}"#,
        r#""hostPath":{"path":"/p","type":"Directory"}"#,
        r#""gitRepo":{"repository":"r","directory":"d"}"#,
        r#""gcePersistentDisk":{"pdName":"p","partition":1}"#,
        r#""awsElasticBlockStore":{"volumeID":"v"}"#,
        r#""secret":{"secretName":"s","items":[{"key":"k","path":"a/b","mode":256}]}"#,
        r#""nfs":{"server":"s","path":"/p"}"#,
        r#""iscsi":{"targetPortal":"p","iqn":"iqn.2015-02.example.com:init","lun":255,"initiatorName":"eui.0123456789abcdef"}"#,
        r#""glusterfs":{"endpoints":"e","path":"p"}"#,
        r#""flocker":{"datasetName":"d"}"#,
        r#""persistentVolumeClaim":{"claimName":"c"}"#,
        r#""rbd":{"monitors":["m"],"image":"i"}"#,
        r#""cinder":{"volumeID":"v","secretRef":{"name":"s"}}"#,
        r#""cephfs":{"monitors":["m"]}"#,
        r#""quobyte":{"registry":"a:1,b:2","volume":"v"}"#,
        r#""downwardAPI":{"items":[{"path":"l","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.labels"}},{"path":"c","resourceFieldRef":{"containerName":"c","resource":"limits.cpu","divisor":"1m"}}]}"#,
        r#""fc":{"targetWWNs":["w"],"lun":1}"#,
        r#""flexVolume":{"driver":"d","options":{"a/b":"c"}}"#,
        r#""configMap":{"name":"m","defaultMode":420}"#,
        r#""azureFile":{"secretName":"s","shareName":"h"}"#,
        r#""vsphereVolume":{"volumePath":"p"}"#,
        r#""photonPersistentDisk":{"pdID":"p"}"#,
        r#""portworxVolume":{"volumeID":"v"}"#,
        r#""azureDisk":{"diskName":"d","diskURI":"/subscriptions/x","kind":"Managed","cachingMode":"None"}"#,
        r#""storageos":{"volumeName":"v","volumeNamespace":"n"}"#,
        r#""projected":{"sources":[{"secret":{"name":"s"}}]}"#,
        r#""scaleIO":{"gateway":"g","system":"s","secretRef":null,"volumeName":"v"}"#,
        r#""csi":{"driver":"d.example.com","nodePublishSecretRef":{"name":"s"}}"#,
        r#""ephemeral":{"volumeClaimTemplate":{"metadata":{"labels":{"a":"b"}},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}}"#,
        r#""image":{"reference":"r","pullPolicy":"Always"}"#,
    ] {
        let volume = format!(r#"{{"name":"x",{source}}}"#);
        cases(&Pod, GOOD, &[create("spec volumes 3", &volume, &[])]);
    }
    for (source, want) in [
        (
            r#""flocker":{}"#,
            "spec.volumes[3].flocker: Required value: one of datasetName and datasetUUID is required",
        ),
        (
            r#""fc":{"wwids":["w"],"targetWWNs":["w"]}"#,
            "spec.volumes[3].fc.lun: Required value: lun is required if targetWWNs is specified",
        ),
        (
            r#""iscsi":{"targetPortal":"p","iqn":"iqn.2015-02.x","lun":0}"#,
            r#"spec.volumes[3].iscsi.iqn: Invalid value: "iqn.2015-02.x": must be valid format"#,
        ),
        (
            r#""azureDisk":{"diskName":"d","diskURI":"x","kind":"Managed"}"#,
            r#"spec.volumes[3].azureDisk.diskURI: Unsupported value: "x": supported values: "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}""#,
        ),
        (
            r#""flexVolume":{"driver":"d","options":{"x.k8s.io/b":"c"}}"#,
            r#"spec.volumes[3].flexVolume.options[x.k8s.io/b]: Invalid value: "x.k8s.io/b": kubernetes.io and k8s.io namespaces are reserved"#,
        ),
        (
            r#""quobyte":{"registry":"a","volume":"v"}"#,
            r#"spec.volumes[3].quobyte.registry: Invalid value: "a": must be a host:port pair or multiple pairs separated by commas"#,
        ),
    ] {
        let volume = format!(r#"{{"name":"x",{source}}}"#);
        let mut wanted = vec![want];
        if source.contains("wwids") {
            wanted.insert(0, r#"spec.volumes[3].fc.targetWWNs: Invalid value: ["w"]: targetWWNs and wwids can not be specified simultaneously"#);
        }
        cases(&Pod, GOOD, &[create("spec volumes 3", &volume, &wanted)]);
    }
}
