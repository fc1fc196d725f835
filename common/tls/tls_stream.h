// TLS 1.3 over a connected TCP socket: mutual certificates, nothing older, no resumption.
//
// The handshake only proves that the peer has the key of the certificate it shows; the owner judges
// that certificate (peer()) before it reads or sends anything else. Both sides complete the
// handshake with any certificate, so that a server can say why it turns a peer away.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/net/byte_stream.h"
#include "common/tls/certificate.h"
#include "common/tls/server_certificate.h"

struct ssl_ctx_st;
struct ssl_st;

namespace datacloud {

// What one side shows. `authority` signed the certificate, and is what peers are judged by; empty:
// not known yet (a joining node).
struct TlsCredentials {
  Bytes certificate;
  NodeKey key;
  Bytes authority;
  // A server: what it shows to clients that name one of its authorities. May be null.
  std::shared_ptr<const ServerCertificate> organisation;
  // A client: who the server is when one of the authorities behind the first has certified it.
  std::vector<std::string> identities;
};

// Immutable; any number of connections share it.
class TlsContext {
 public:
  enum class Side { client, server };
  // invalid: key and certificate do not belong together.
  static result<std::shared_ptr<const TlsContext>> make(Side, const TlsCredentials&);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  Side side() const { return side_; }
  const Bytes& authority() const { return authority_; }
  const std::shared_ptr<const ServerCertificate>& organisation() const { return organisation_; }
  const std::vector<std::string>& identities() const { return identities_; }
  ssl_ctx_st* native() const { return context_; }

 private:
  TlsContext(Side side, const TlsCredentials& credentials)
      : side_(side),
        authority_(credentials.authority),
        organisation_(credentials.organisation),
        identities_(credentials.identities) {}
  const Side side_;
  const Bytes authority_;
  const std::shared_ptr<const ServerCertificate> organisation_;
  const std::vector<std::string> identities_;
  ssl_ctx_st* context_ = nullptr;
};

// Records are gathered: one call to the kernel takes or brings many of them, as a call costs more
// than a record. Memory: kTlsGatheredBytes each way while bytes move, nearly none while idle.
inline constexpr size_t kTlsGatheredBytes = 256u << 10;

class TlsStream final : public ByteStream {
 public:
  // Owns `fd`, which is connected and non-blocking.
  TlsStream(int fd, std::shared_ptr<const TlsContext>);
  ~TlsStream() override;

  // True when it is complete; false: call again when the socket has bytes, or room
  // (handshake_waits_for_room). The failure says why there will be none.
  result<bool> handshake();
  bool handshake_waits_for_room() const { return waits_for_room_; }
  // Server: the peer has sent its whole ClientHello, and so had us do the expensive part.
  bool greeted() const;

  // The peer, judged by the context's authority at that time; a server also by the organisation's
  // authorities, when the context says who it is by them. After the handshake.
  PeerCertificate peer(int64_t now_ns) const;
  // The certificate that the peer has sent behind its own; empty: none.
  Bytes authority_shown() const;
  // The peer judged by that other authority.
  PeerCertificate peer_by(ByteView authority, int64_t now_ns) const;
  // A client judged as if its certificate were trusted by itself: only its dates and purposes
  // count, and whoever knows it goes by `serial`, which is its SHA-256 (organisation.h).
  PeerCertificate peer_pinned(int64_t now_ns) const;

  int fd() const override { return fd_; }
  Received receive(MutableByteView) override;
  Sent send(std::span<const iovec>) override;
  State flush() override;
  bool receive_waits_for_room() const override { return waits_for_room_; }
  // Tells the peer that nothing more will be sent; what it still sends can be received.
  void finish_sending();

 private:
  friend struct TlsBio;
  int take_out(ByteView);         // of OpenSSL: records, on their way out
  int bring_in(MutableByteView);  // and in
  State send_out();
  bool write_record(std::span<const iovec>&, size_t& offset, size_t& taken);

  const int fd_;
  const std::shared_ptr<const TlsContext> context_;
  mutable std::mutex mutex_;  // OpenSSL's connections are for one thread at a time
  ssl_st* ssl_ = nullptr;
  bool waits_for_room_ = false;
  bool drained_ = false;  // the last read has emptied the socket
  Bytes gathered_;        // small parts become one record
  Bytes out_;             // records, of which the socket has taken the first `out_sent_` bytes
  size_t out_sent_ = 0;
};

// Before a handshake: tells the peer, without waiting, that there is no place for it now (a fatal
// alert). The caller closes the socket.
void refuse_handshake(int fd);

}  // namespace datacloud
