// Connects over TLS to a daemon at one of several addresses.
//
// On a thread of its own, because names are resolved: addresses are tried a quarter of a second
// apart, the next at once when all others have failed, and the first complete handshake with a
// daemon of our cloud wins. Nothing is sent to any other. While one is waited for, those that
// nobody listens at are tried again: a standby listens from the moment on when it leads.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/tls/tls_stream.h"

namespace datacloud {

inline constexpr Duration kDialAttemptMax = seconds(5);  // connecting and handshake of one address
inline constexpr Duration kDialPatience = seconds(10);   // all of it, resolving aside

// What a node asks of a daemon: signed by its authority, and with that role.
result<void> check_daemon(const TlsStream&);

class Dial {
 public:
  using Check = std::function<result<void>(const TlsStream&)>;
  using Outcome = result<std::unique_ptr<TlsStream>>;

  Dial(std::vector<std::string> addresses, std::shared_ptr<const TlsContext>,
       Check check = check_daemon);
  // Does not wait: what is under way ends by itself.
  ~Dial();
  Dial(const Dial&) = delete;
  Dial& operator=(const Dial&) = delete;

  // Readable once there is an outcome.
  int ready_fd() const;
  // nullopt: not yet. The failure names what became of each address. Once.
  std::optional<Outcome> take();
  // Whether somebody has taken a connection, whatever became of it. Any time.
  bool answered() const;
  // The address that won; once take() has returned a stream.
  std::string winner() const;
  // Blocks until there is one.
  Outcome wait();

 private:
  struct State;
  static void run(const std::shared_ptr<State>&);
  const std::shared_ptr<State> state_;
};

}  // namespace datacloud
