//! Configurations and what becomes of them.

use super::*;

fn parse(body: &str) -> Result<Config, String> {
    let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{body}");
    Config::parse(&text).map_err(|error| error.0)
}

#[test]
fn nothing_said_is_upstreams_default() {
    let config = parse("").unwrap();
    assert_eq!(config.backoff_initial, Duration::from_secs(1));
    assert_eq!(config.backoff_max, Duration::from_secs(10));
    assert_eq!(
        config.lease,
        ("kube-system".to_string(), "kube-scheduler".to_string())
    );
    let [profile] = &config.profiles[..] else {
        panic!("one profile")
    };
    assert_eq!(profile.name, "default-scheduler");
    let scores: Vec<_> = profile
        .scores
        .iter()
        .map(|(plugin, weight)| (plugin.name(), *weight))
        .collect();
    assert_eq!(
        scores,
        [
            ("TaintToleration", 3),
            ("NodeAffinity", 2),
            ("NodeResourcesFit", 1),
            ("VolumeBinding", 1),
            ("PodTopologySpread", 2),
            ("InterPodAffinity", 2),
            ("DynamicResources", 2),
            ("NodeResourcesBalancedAllocation", 1),
            ("ImageLocality", 1),
        ]
    );
    assert!(profile.has_gates && profile.filters.len() == 13);
}

#[test]
fn plugins_are_enabled_disabled_and_weighed() {
    let config = parse(
        "profiles:
- schedulerName: one
  plugins:
    score:
      disabled: [{name: ImageLocality}]
      enabled: [{name: NodeResourcesFit, weight: 5}]
    multiPoint:
      disabled: [{name: NodePorts}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 3}]}
- schedulerName: two
  plugins: {postFilter: {disabled: [{name: '*'}]}}
",
    )
    .unwrap();
    let one = config.profile("one").unwrap();
    assert_eq!(one.scores[0], (Plugin::NodeResourcesFit, 5));
    assert!(
        !one.scores
            .iter()
            .any(|(plugin, _)| *plugin == Plugin::ImageLocality)
    );
    assert!(!one.filters.contains(&Plugin::NodePorts));
    assert_eq!(one.fit.strategy, Strategy::MostAllocated);
    assert_eq!(one.fit.resources, [("cpu".to_string(), 3)]);
    assert!(config.profile("two").unwrap().post_filters.is_empty());
}

#[test]
fn what_is_wrong_is_said_in_upstreams_words() {
    for (body, want) in [
        (
            "percentageOfNodesToScore: 101",
            "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
        ),
        (
            "parallelism: 0",
            "parallelism: Invalid value: 0: should be an integer value greater than zero",
        ),
        (
            "podMaxBackoffSeconds: 0",
            "podMaxBackoffSeconds: Invalid value: 0: must be greater than or equal to PodInitialBackoffSeconds",
        ),
        (
            "profiles: [{}, {}]",
            "[profiles[0].schedulerName: Required value, profiles[1].schedulerName: Required value, profiles[1].schedulerName: Duplicate value: \"profiles[0].schedulerName\"]",
        ),
        (
            "profilez: []",
            "strict decoding error: unknown field \"profilez\"",
        ),
        (
            "profiles: [{plugins: {filter: {enable: []}}}]",
            "strict decoding error: unknown field \"profiles[0].plugins.filter.enable\"",
        ),
        (
            "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]}]",
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
        ),
        (
            "profiles: [{pluginConfig: [{name: DefaultPreemption, args: {foo: bar}}]}]",
            "strict decoding error: decoding .profiles[0].pluginConfig[0]: decoding args for plugin DefaultPreemption: strict decoding error: unknown field \"foo\"",
        ),
        (
            "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Best}}}]}]",
            "profiles[0].pluginConfig[0].args.scoringStrategy.type: Unsupported value: \"Best\": supported values: \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\"",
        ),
        (
            "profiles: [{pluginConfig: [{name: PodTopologySpread, args: {defaultConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}}]}]",
            "profiles[0].pluginConfig[0].args.defaultingType: Invalid value: \"System\": when .defaultConstraints are not empty",
        ),
    ] {
        assert_eq!(parse(body).unwrap_err(), want, "{body}");
    }
    let other = Config::parse("apiVersion: v1\nkind: Pod").unwrap_err().0;
    assert_eq!(
        other,
        "no kind \"Pod\" is registered for version \"v1\" in scheme"
    );
}
