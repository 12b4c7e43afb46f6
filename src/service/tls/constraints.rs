//! Which names an authority may sign, by OpenSSL's rules (`crypto/x509/v3_ncons.c` of 3.0). They hold for every name in
//! the certificates below it, whatever host is asked for.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, NameConstraints, ParsedExtension};
use x509_parser::x509::X509Name;

/// Whether every name of the certificate is one that `constraints` allow. The common name counts for the server's own
/// certificate alone, where that has no DNS names, and where it looks like one.
pub(super) fn allow(constraints: &NameConstraints<'_>, certificate: &X509Certificate<'_>, is_leaf: bool) -> bool {
    let subject = certificate.subject();
    let mut names = Vec::new();
    if subject.iter().next().is_some() {
        names.push(GeneralName::DirectoryName(subject.clone()));
    }
    names.extend(subject.iter_email().filter_map(|email| Some(GeneralName::RFC822Name(email.as_str().ok()?))));
    let alternatives = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(names.general_names.clone()),
        _ => None,
    });
    names.extend(alternatives.flatten());
    if is_leaf && !names.iter().any(|name| matches!(name, GeneralName::DNSName(_))) {
        let common = subject.iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.filter(|name| is_like_dns(name)).map(GeneralName::DNSName));
    }
    names.iter().all(|name| allows(constraints, name))
}

/// Names of a kind that is permitted at all must be among the permitted ones, and none among the excluded ones.
fn allows(constraints: &NameConstraints<'_>, name: &GeneralName<'_>) -> bool {
    let of_its_kind = |subtrees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| -> Vec<Option<bool>> {
        let bases = subtrees.iter().flatten().map(|subtree| &subtree.base);
        bases.filter(|base| kind(base) == kind(name)).map(|base| is_below(name, base)).collect()
    };
    let (permitted, excluded) =
        (of_its_kind(&constraints.permitted_subtrees), of_its_kind(&constraints.excluded_subtrees));
    // A kind that nobody compares is refused as soon as there is a rule for it.
    let known = permitted.iter().chain(&excluded).all(Option::is_some);
    known && (permitted.is_empty() || permitted.contains(&Some(true))) && !excluded.contains(&Some(true))
}

fn kind(name: &GeneralName<'_>) -> u8 {
    match name {
        GeneralName::OtherName(..) => 0,
        GeneralName::RFC822Name(_) => 1,
        GeneralName::DNSName(_) => 2,
        GeneralName::X400Address(_) => 3,
        GeneralName::DirectoryName(_) => 4,
        GeneralName::EDIPartyName(_) => 5,
        GeneralName::URI(_) => 6,
        GeneralName::IPAddress(_) => 7,
        GeneralName::RegisteredID(_) => 8,
        GeneralName::Invalid(tag, _) => u8::try_from(tag.0).unwrap_or(u8::MAX),
    }
}

/// `None` where names of this kind, or of this form, are not compared.
fn is_below(name: &GeneralName<'_>, base: &GeneralName<'_>) -> Option<bool> {
    match (name, base) {
        (GeneralName::DNSName(name), GeneralName::DNSName(base)) => Some(dns(name, base)),
        (GeneralName::IPAddress(name), GeneralName::IPAddress(base)) => address(name, base),
        (GeneralName::DirectoryName(name), GeneralName::DirectoryName(base)) => {
            let (name, base) = (canonical(name), canonical(base));
            Some(name.starts_with(&base))
        }
        (GeneralName::RFC822Name(name), GeneralName::RFC822Name(base)) => mail(name, base),
        (GeneralName::URI(name), GeneralName::URI(base)) => {
            let (_, rest) = name.split_once("://")?;
            let host = rest.split([':', '/']).next().filter(|host| !host.is_empty())?;
            Some(host_is_below(host, base))
        }
        _ => None,
    }
}

/// Every name is below the empty one, and below a name are those that end in it, at a dot.
fn dns(name: &str, base: &str) -> bool {
    let Some(at) = name.len().checked_sub(base.len()) else { return false };
    let ends = name.is_char_boundary(at) && name[at..].eq_ignore_ascii_case(base);
    base.is_empty() || ends && (at == 0 || base.starts_with('.') || name[..at].ends_with('.'))
}

/// A base that begins with a dot stands for what is below it, and any other for itself.
fn host_is_below(host: &str, base: &str) -> bool {
    if !base.starts_with('.') {
        return host.eq_ignore_ascii_case(base);
    }
    let at = host.len().checked_sub(base.len()).filter(|at| *at > 0 && host.is_char_boundary(*at));
    at.is_some_and(|at| host[at..].eq_ignore_ascii_case(base))
}

fn mail(name: &str, base: &str) -> Option<bool> {
    let (local, host) = name.rsplit_once('@')?;
    Some(match base.rsplit_once('@') {
        Some((wanted, at)) => (wanted.is_empty() || wanted == local) && host.eq_ignore_ascii_case(at),
        None => host_is_below(host, base),
    })
}

/// The base is an address and a mask.
fn address(name: &[u8], base: &[u8]) -> Option<bool> {
    if !matches!(name.len(), 4 | 16) || !matches!(base.len(), 8 | 32) {
        return None;
    }
    let (network, mask) = base.split_at(base.len() / 2);
    let same = |((byte, network), mask): ((&u8, &u8), &u8)| byte & mask == network & mask;
    Some(name.len() == network.len() && name.iter().zip(network).zip(mask).all(same))
}

/// What two names of directories are compared by: their parts, in small letters and with single spaces.
fn canonical(name: &X509Name<'_>) -> Vec<Vec<(String, Vec<u8>)>> {
    let part = |part: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        let text = part.as_str().map(|text| text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" "));
        (part.attr_type().to_id_string(), text.map_or_else(|_| part.as_slice().to_vec(), String::into_bytes))
    };
    name.iter_rdn().map(|set| set.iter().map(part).collect()).collect()
}

/// As `cn2dnsid`: two labels at least, of letters, digits, `_`, and `-` in between.
fn is_like_dns(name: &str) -> bool {
    let label = |label: &str| {
        let is = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        !label.is_empty() && label.bytes().all(is) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.contains('.') && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_a_name_end_in_it_at_a_dot() {
        for (name, base, is) in [
            ("db.example.com", "example.com", true),
            ("DB.EXAMPLE.com", ".example.com", true),
            ("example.com", "example.com", true),
            ("badexample.com", "example.com", false),
            ("example.com", ".example.com", false),
            ("com", "example.com", false),
            ("anything", "", true),
        ] {
            assert_eq!(dns(name, base), is, "{name} {base}");
        }
    }

    #[test]
    fn addresses_are_compared_under_the_mask_and_by_their_kind() {
        let net = [10, 0, 0, 0, 255, 0, 0, 0];
        assert_eq!(address(&[10, 1, 2, 3], &net), Some(true));
        assert_eq!(address(&[11, 1, 2, 3], &net), Some(false));
        assert_eq!(address(&[0; 16], &net), Some(false));
        assert_eq!(address(&[10, 1, 2], &net), None);
    }

    #[test]
    fn mail_and_hosts_of_addresses() {
        assert_eq!(mail("me@example.com", "EXAMPLE.com"), Some(true));
        assert_eq!(mail("me@a.example.com", "example.com"), Some(false));
        assert_eq!(mail("me@a.example.com", ".example.com"), Some(true));
        assert_eq!(mail("me@example.com", "you@example.com"), Some(false));
        assert_eq!(mail("nobody", "example.com"), None);
    }

    #[test]
    fn a_common_name_is_a_host_when_it_has_two_labels() {
        for (name, is) in
            [("db.example.com", true), ("localhost", false), ("a..b", false), ("-a.b", false), ("a b.c", false)]
        {
            assert_eq!(is_like_dns(name), is, "{name}");
        }
    }
}
