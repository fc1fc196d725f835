// What the daemon shows to peers over TLS: a certificate of its own authority for a key that is
// made at each start and never written. Renewed when two thirds of its life are over.
//
// On the service's thread.
#pragma once

#include <memory>

#include "common/tls/tls_stream.h"

namespace datacloud {

class DaemonCertificate {
 public:
  // `organisation`: the certificates of authorities that sign nodes beside ours (organisation.h).
  DaemonCertificate(std::shared_ptr<const CertificateAuthority>, Bytes organisation);
  std::shared_ptr<const TlsContext> context();

 private:
  void renew(int64_t now_ns);

  const std::shared_ptr<const CertificateAuthority> authority_;
  const Bytes organisation_;
  std::shared_ptr<const TlsContext> context_;
  int64_t renew_at_ns_ = 0;
};

}  // namespace datacloud
