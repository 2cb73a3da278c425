"""Records of every type whose data have a shape, as dnspython reads them."""

from __future__ import annotations

RDATA = [
    ("A", "192.0.2.1"), ("AAAA", "2001:db8::1"), ("AAAA", "::ffff:192.0.2.1"), ("NS", "ns.example."), ("CNAME", "."),
    ("PTR", r"a\.b.example."), ("MX", "10 mail.example."), ("TXT", r'"say \"hi\" \\ ok" "" "\000\255;"'),
    ("SPF", '"v=spf1 -all"'), ("SOA", "ns.example. root.example. 2024010101 7200 3600 1209600 300"),
    ("SRV", "1 2 443 host.example."), ("CAA", '0 issue "letsencrypt.org"'), ("CAA", '128 iodef ""'),
    ("DS", "12345 8 2 " + "ab" * 32), ("CDS", "0 0 0 00"), ("DNSKEY", "257 3 8 AwEAAcEqyA=="),
    ("RRSIG", "A 8 2 300 20300101000000 20240101000000 12345 example. AwEAAcEqyA=="), ("DHCID", "AAIBY2/AuCccgg=="),
    ("NSEC", "b.example. A MX RRSIG NSEC TYPE1234"), ("NSEC3PARAM", "1 0 10 aabbccdd"), ("NSEC3PARAM", "1 0 0 -"),
    ("NSEC3", "1 1 10 aabb 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom A RRSIG"), ("TLSA", "3 1 1 " + "cd" * 32),
    ("SMIMEA", "3 1 1 " + "cd" * 32), ("SSHFP", "4 2 " + "ef" * 32), ("HINFO", '"PC" "Linux"'),
    ("SVCB", "0 svc.example."), ("SVCB", '1 . alpn="h2,h3" port=8443'), ("DLV", "12345 8 2 " + "ab" * 32),
    ("HTTPS", "1 . alpn=h2 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1"),
    ("HTTPS", r'1 . mandatory=alpn alpn="a\\,b" no-default-alpn key65333="x\"\000"'),
    ("NAPTR", '100 10 "u" "E2U+sip" "!^.*$!sip:x@example.!" .'), ("URI", '10 1 "https://example./?q=\\"1\\""'),
    ("DNAME", "other.example."), ("RP", "a.example. b.example."), ("KX", "1 kx.example."), ("AFSDB", "1 afs.example."),
    ("EUI48", "00-11-22-33-44-55"), ("EUI64", "00-11-22-33-44-55-66-77"), ("OPENPGPKEY", "AwEAAcEqyA=="),
    ("CSYNC", "66 3 A NS AAAA"), ("ZONEMD", "2018031500 1 1 " + "ab" * 48), ("CDNSKEY", "257 3 8 AwEAAcEqyA=="),
    ("LOC", "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m"), ("CERT", "1 2 8 AwEAAcEqyA=="),
    ("TYPE65400", r"\# 4 deadbeef"), ("TYPE65400", r"\# 0"), ("APL", "1:192.0.2.0/24"), ("NULL", r"\# 2 0102"),
]  # fmt: skip
