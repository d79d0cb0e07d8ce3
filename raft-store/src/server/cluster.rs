//! The Cluster service.

use super::Inner;
use crate::error::{Error, Result};
use crate::pb::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, ResponseHeader,
};

pub(super) async fn add(server: &Inner, request: MemberAddRequest) -> Result<MemberAddResponse> {
    let urls = check_peer_urls(&request.peer_ur_ls)?;
    let (member, members) = server.member.member_add(urls, request.is_learner).await?;
    Ok(MemberAddResponse {
        header: header(server),
        member: Some(member),
        members,
    })
}

pub(super) async fn remove(
    server: &Inner,
    request: MemberRemoveRequest,
) -> Result<MemberRemoveResponse> {
    let members = server.member.member_remove(request.id).await?;
    Ok(MemberRemoveResponse {
        header: header(server),
        members,
    })
}

pub(super) async fn update(
    server: &Inner,
    request: MemberUpdateRequest,
) -> Result<MemberUpdateResponse> {
    let urls = check_peer_urls(&request.peer_ur_ls)?;
    let members = server.member.member_update(request.id, urls).await?;
    Ok(MemberUpdateResponse {
        header: header(server),
        members,
    })
}

pub(super) async fn list(server: &Inner, request: MemberListRequest) -> Result<MemberListResponse> {
    let members = server.member.members(request.linearizable).await?;
    Ok(MemberListResponse {
        header: header(server),
        members,
    })
}

pub(super) async fn promote(
    server: &Inner,
    request: MemberPromoteRequest,
) -> Result<MemberPromoteResponse> {
    let members = server.member.member_promote(request.id).await?;
    Ok(MemberPromoteResponse {
        header: header(server),
        members,
    })
}

/// As etcd's: membership has no revision.
fn header(server: &Inner) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision: 0,
        ..server.member.header()
    })
}

/// Checks the peer URLs of a member as etcd does; yields them trimmed and sorted.
///
/// A URL is `http://host:port` or `https://host:port` without a path. etcd would also take Unix
/// sockets, which no other machine can reach.
pub fn check_peer_urls(urls: &[String]) -> Result<Vec<String>> {
    let mut checked: Vec<String> = urls.iter().map(|url| url.trim().to_owned()).collect();
    if checked.is_empty() || !checked.iter().all(|url| is_peer_url(url)) {
        return Err(Error::MemberBadUrls);
    }
    checked.sort();
    Ok(checked)
}

fn is_peer_url(url: &str) -> bool {
    let Some(address) = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
    else {
        return false;
    };
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_fits = match bracketed {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/', '?', '#', '@', '[', ']', ' ']),
    };
    host_fits && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(urls: &[&str]) -> Result<Vec<String>> {
        check_peer_urls(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn usable_urls_pass_trimmed_and_sorted() {
        let urls = check(&[
            " https://b:2380 ",
            "http://10.0.0.1:2380",
            "https://[::1]:1",
        ])
        .unwrap();
        assert_eq!(
            urls,
            ["http://10.0.0.1:2380", "https://[::1]:1", "https://b:2380"]
        );
    }

    #[test]
    fn others_are_refused_with_etcds_error() {
        for url in [
            "",
            "a:2380",
            "ftp://a:1",
            "http://a",
            "http://a:",
            "http://:1",
            "http://a:x",
            "http://a:1/",
            "http://a:1/p",
            "http://a:70000",
            "http://a b:1",
            "unix://x:1",
            "http://::1:1",
        ] {
            assert_eq!(check(&[url]), Err(Error::MemberBadUrls), "{url:?}");
        }
        assert_eq!(check(&[]), Err(Error::MemberBadUrls));
        assert_eq!(
            check(&["http://a:1", "nonsense"]),
            Err(Error::MemberBadUrls)
        );
    }
}
