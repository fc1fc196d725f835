// What the daemon shows to peers over TLS: a certificate of its own authority for a key that is
// made at each start and never written. Renewed when two thirds of its life are over.
//
// On the service's thread.
#pragma once

#include <memory>

#include "common/tls/server_certificate.h"
#include "common/tls/tls_stream.h"

namespace datacloud {

class DaemonCertificate {
 public:
  // `organisation`: the certificates of authorities that sign nodes beside ours (organisation.h).
  // `shown`: what nodes that ask for it are shown, if there is any; has been read once.
  DaemonCertificate(std::shared_ptr<const CertificateAuthority>, Bytes organisation,
                    ServerCertificateFiles shown);
  std::shared_ptr<const TlsContext> context();

 private:
  void renew(int64_t now_ns);

  const std::shared_ptr<const CertificateAuthority> authority_;
  const Bytes organisation_;
  ServerCertificateFiles files_;
  std::shared_ptr<const ServerCertificate> shown_;
  std::shared_ptr<const TlsContext> context_;
  int64_t renew_at_ns_ = 0;
};

}  // namespace datacloud
