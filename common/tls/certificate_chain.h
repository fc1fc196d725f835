// What judges certificates, over OpenSSL's types (certificate.cc). For .cc files of this folder
// only.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/tls/certificate.h"
#include "common/tls/openssl_handles.h"

namespace datacloud {

// DER one behind the other: the cloud's own authority, and the organisation's.
std::vector<X509Ptr> parse_authorities(ByteView der);
Bytes der_of_certificate(const X509*);
// Its subject, for people.
std::string subject_of_certificate(X509*);
// Since 1970, as wall_ns clamps it (clock.h).
int64_t certificate_time_ns(const ASN1_TIME*);

// Of one of these authorities, through at most four others, which `chain` (null: none) or `by`
// has. The problem is empty when it is good.
std::pair<PeerCertificate::Verdict, std::string> verify_certificate(X509* shown,
                                                                    std::span<const X509Ptr> by,
                                                                    STACK_OF(X509) * chain,
                                                                    CertificateUse, int64_t now_ns);

}  // namespace datacloud
