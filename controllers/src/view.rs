//! What makes a compact struct a view: the kind it is a projection of, and where its metadata is.

/// Declares a struct with a `metadata` field as a view of a kind, so that `kube::Api` and the
/// informers work with it: `view!(Pod, "", "v1", "Pod", "pods", NamespaceResourceScope)`.
#[macro_export]
macro_rules! view {
    ($view:ty, "", $version:literal, $kind:literal, $plural:literal, $scope:ident) => {
        $crate::view!(@ $view, "", $version, $version, $kind, $plural, $scope);
    };
    ($view:ty, $group:literal, $version:literal, $kind:literal, $plural:literal, $scope:ident) => {
        $crate::view!(@ $view, $group, concat!($group, "/", $version), $version, $kind, $plural, $scope);
    };
    (@ $view:ty, $group:literal, $api:expr, $version:literal, $kind:literal, $plural:literal, $scope:ident) => {
        impl k8s_openapi::Resource for $view {
            const API_VERSION: &'static str = $api;
            const GROUP: &'static str = $group;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::$scope;
        }

        impl k8s_openapi::Metadata for $view {
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }
    };
}
