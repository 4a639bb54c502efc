//! What a certificate says, as far as rustls does not tell: dates, purposes, names.
//!
//! A reader for the few fields of X.509 (RFC 5280, section 4.1) that pinning and the check of client names need. Chains,
//! signatures and host names stay with rustls.

use std::net::IpAddr;

use jiff::{civil, tz::TimeZone};
use rustls::pki_types::CertificateDer;

/// The tags of ASN.1 that occur here.
mod tag {
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const OCTETS: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const GENERALIZED_TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    pub(super) const VERSION: u8 = 0xa0;
    pub(super) const EXTENSIONS: u8 = 0xa3;
}

/// The extensions that may be critical: each is read here, or says nothing about whether one pinned certificate is good.
/// All are 2.5.29.N.
mod extension {
    pub(super) const ALTERNATIVE_NAMES: u8 = 17;
    pub(super) const PURPOSES: u8 = 37;
    /// Key identifiers, key usage, basic and name constraints, revocation lists, policies.
    pub(super) const KNOWN: [u8; 9] = [14, 15, ALTERNATIVE_NAMES, 19, 30, 31, 32, 35, PURPOSES];
}

/// 2.5.29, under which all known extensions are.
const EXTENSION_ARC: [u8; 2] = [0x55, 0x1d];

/// 2.5.4.3, the common name.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// 1.3.6.1.5.5.7.3.1, authentication of a server.
const SERVER_AUTH: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 3, 1];

/// 2.5.29.37.0, any purpose.
const ANY_PURPOSE: [u8; 4] = [0x55, 0x1d, 0x25, 0x00];

/// What a certificate says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// The first second of its validity, since 1970.
    pub(super) not_before: i64,
    /// The last second of its validity, since 1970.
    pub(super) not_after: i64,
    /// The last common name of its subject.
    pub(super) common_name: Option<String>,
    /// Its alternative names as text: DNS names, mail addresses, URIs, IP addresses. `None` if it does not have that list.
    pub(super) alternative_names: Option<Vec<String>>,
    /// Whether it may be a server's.
    pub(super) serves: bool,
    /// Whether it has a critical extension that is not understood.
    pub(super) puzzling: bool,
}

impl Certificate {
    /// Reads `der`. `None` if it is not a certificate.
    pub(super) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let mut whole = Der(der).expect(tag::SEQUENCE)?;
        let mut fields = whole.expect(tag::SEQUENCE)?;
        fields.optional(tag::VERSION);
        let (_serial, _algorithm, _issuer) = (fields.next()?, fields.next()?, fields.next()?);
        let mut validity = fields.expect(tag::SEQUENCE)?;
        let mut certificate = Self {
            not_before: validity.time()?,
            not_after: validity.time()?,
            common_name: common_name(fields.expect(tag::SEQUENCE)?),
            alternative_names: None,
            serves: true,
            puzzling: false,
        };
        while let Some((tag, mut value)) = fields.next() {
            if tag == tag::EXTENSIONS {
                let mut extensions = value.expect(tag::SEQUENCE)?;
                while !extensions.0.is_empty() {
                    certificate.take(extensions.expect(tag::SEQUENCE)?)?;
                }
            }
        }
        Some(certificate)
    }

    fn take(&mut self, mut extension: Der<'_>) -> Option<()> {
        let id = extension.expect(tag::OID)?.0;
        let critical = extension.optional(tag::BOOLEAN);
        let critical = critical.is_some_and(|value| value.0 != [0]);
        let mut value = extension.expect(tag::OCTETS)?;
        let number = match id.strip_prefix(&EXTENSION_ARC) {
            Some([number]) if extension::KNOWN.contains(number) => *number,
            _ => {
                self.puzzling |= critical;
                return Some(());
            }
        };
        if number == extension::ALTERNATIVE_NAMES {
            self.alternative_names = Some(names(value.expect(tag::SEQUENCE)?));
        }
        if number == extension::PURPOSES {
            let mut purposes = value.expect(tag::SEQUENCE)?;
            self.serves = false;
            while !purposes.0.is_empty() {
                let purpose = purposes.expect(tag::OID)?.0;
                self.serves |= purpose == SERVER_AUTH || purpose == ANY_PURPOSE;
            }
        }
        Some(())
    }
}

/// Returns the last common name of a subject: a sequence of sets of pairs.
fn common_name(mut subject: Der<'_>) -> Option<String> {
    let mut name = None;
    while let Some(mut set) = subject.expect(tag::SET) {
        while let Some(mut pair) = set.expect(tag::SEQUENCE) {
            if let (Some(id), Some((_, text))) = (pair.expect(tag::OID), pair.next())
                && id.0 == COMMON_NAME
            {
                name = Some(String::from_utf8_lossy(text.0).into_owned());
            }
        }
    }
    name
}

fn names(mut list: Der<'_>) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((tag, value)) = list.next() {
        match tag {
            // rfc822Name, dNSName, uniformResourceIdentifier.
            0x81 | 0x82 | 0x86 => names.push(String::from_utf8_lossy(value.0).into_owned()),
            // iPAddress.
            0x87 => names.extend(address(value.0).map(|address| address.to_string())),
            _ => {}
        }
    }
    names
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok()
}

/// What is left to read of an ASN.1 value in its distinguished encoding.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<(u8, Der<'a>)> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        // Long forms say how many bytes hold the length; more than four are no certificate.
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, Der(value)))
    }

    fn expect(&mut self, expected: u8) -> Option<Der<'a>> {
        let (tag, value) = self.next()?;
        (tag == expected).then_some(value)
    }

    fn optional(&mut self, expected: u8) -> Option<Der<'a>> {
        if self.0.first() == Some(&expected) {
            self.expect(expected)
        } else {
            None
        }
    }

    /// Reads a moment, in seconds since 1970. Both forms end in seconds and `Z` in a certificate.
    fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.next()?;
        let digits = text.0.strip_suffix(b"Z")?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let mut pairs = digits
            .chunks_exact(2)
            .map(|pair| i16::from(pair[0] - b'0') * 10 + i16::from(pair[1] - b'0'));
        let mut pair = || pairs.next();
        let year = match (tag, digits.len()) {
            // RFC 5280, section 4.1.2.5.1: two digits are of 1950 to 2049.
            (tag::UTC_TIME, 12) => match pair()? {
                year @ 50.. => 1900 + year,
                year => 2000 + year,
            },
            (tag::GENERALIZED_TIME, 14) => pair()? * 100 + pair()?,
            _ => return None,
        };
        let mut small = || pair().and_then(|value| i8::try_from(value).ok());
        let date = civil::Date::new(year, small()?, small()?).ok()?;
        let time = civil::Time::new(small()?, small()?, small()?, 0).ok()?;
        let moment = date.to_datetime(time).to_zoned(TimeZone::UTC).ok()?;
        Some(moment.timestamp().as_second())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair, SanType, date_time_ymd,
    };

    use super::*;

    fn read(params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        Certificate::read(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn dates_names_and_purposes_are_read() {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(1975, 1, 1);
        params.not_after = date_time_ymd(2061, 2, 3);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "o");
        params
            .distinguished_name
            .push(DnType::CommonName, "the name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.subject_alt_names = vec![
            SanType::DnsName("a.example".try_into().unwrap()),
            SanType::Rfc822Name("me@example".try_into().unwrap()),
            SanType::URI("spiffe://b/c".try_into().unwrap()),
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::IpAddress([0, 0, 0, 0, 0, 0, 0, 1].into()),
        ];
        let names = [
            "a.example",
            "me@example",
            "spiffe://b/c",
            "127.0.0.1",
            "::1",
        ];
        let expected = Certificate {
            not_before: 157_766_400,
            not_after: 2_874_614_400,
            common_name: Some("the name".to_owned()),
            alternative_names: Some(names.map(str::to_owned).to_vec()),
            serves: true,
            puzzling: false,
        };
        assert_eq!(read(&params), expected);
    }

    #[test]
    fn what_is_absent_is_told_from_what_forbids() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let plain = read(&params);
        assert_eq!((plain.common_name, plain.alternative_names), (None, None));
        assert!(plain.serves && !plain.puzzling);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        assert!(!read(&params).serves);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
        assert!(read(&params).serves);
        let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        params.custom_extensions = vec![unknown.clone()];
        assert!(!read(&params).puzzling);
        unknown.set_criticality(true);
        params.custom_extensions = vec![unknown];
        assert!(read(&params).puzzling);
    }

    #[test]
    fn no_cut_and_no_changed_byte_makes_the_reader_panic() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let whole = params.self_signed(&key).unwrap().der().to_vec();
        for place in 0..whole.len() {
            let cut = CertificateDer::from(whole[..place].to_vec());
            assert_eq!(Certificate::read(&cut), None);
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[place] = byte;
                // What comes of it does not matter.
                let _read = Certificate::read(&changed.into()).is_some();
            }
        }
    }
}
