// A connected, non-blocking stream of bytes: a Unix socket, or TLS over TCP (common/tls).
//
// Nothing here waits: the owner polls fd() and calls again. Thread safety: send and receive may be
// called from different threads at once, each by one at a time.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <span>

#include "common/base/bytes.h"

namespace datacloud {

class ByteStream {
 public:
  enum class State { done, blocked, broken };
  struct Received {
    State state = State::broken;
    size_t bytes = 0;   // > 0 exactly when done
    bool more = false;  // more may have come already, unseen by poll: ask again before waiting
  };
  struct Sent {
    State state = State::broken;
    size_t bytes = 0;  // taken, from the front
  };

  virtual ~ByteStream() = default;  // closes the descriptor
  virtual int fd() const = 0;
  // broken: the peer has closed, or the connection failed.
  virtual Received receive(MutableByteView) = 0;
  // blocked: nothing was taken. Whoever was told so offers the same bytes again, or more.
  virtual Sent send(std::span<const iovec>) = 0;
  // A stream may take bytes that the socket has no room for yet: after the last send() it is asked
  // whether all is out. blocked: ask again when there is room.
  virtual State flush() { return State::done; }
  // After a blocked receive: it goes on when there is room to send, not when bytes have come.
  virtual bool receive_waits_for_room() const { return false; }
};

// Owns the descriptor, which is non-blocking.
std::unique_ptr<ByteStream> make_socket_stream(int fd);

}  // namespace datacloud
