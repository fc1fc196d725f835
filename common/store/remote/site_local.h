// The way between a node and the server of a site on one machine, after TLS has said who both are:
// a socket of the Unix domain, in the abstract name space, which is the network name space's own.
//
// A ticket comes through the TLS connection, is good once, and is shown on the socket together with
// the window. Each side also holds the kernel's word for the other's user id against what was said
// through TLS, so that no process of another user can stand between.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "common/net/byte_stream.h"
#include "common/proto/store.pb.h"
#include "common/store/remote/site_window.h"

namespace datacloud {

inline constexpr size_t kTicketIdBytes = 16, kTicketBytes = 48;  // an id, and a secret

// Both ends of a connected TCP socket have the same address: this machine's.
bool is_of_this_machine(int tcp_fd);
// The user of the process that connected to, or listens at, the other end.
std::optional<uid_t> peer_uid(int unix_fd);

// Listens under a new random name. The descriptor does not block.
result<int> listen_local(std::string& name);
// Non-blocking; nullopt: nobody waits, or they have gone. The failure: there is no room for one
// more.
result<std::optional<int>> accept_local(int listener);

struct LocalConnection {
  std::unique_ptr<ByteStream> stream;
  std::shared_ptr<SiteWindow> window;
};
// Shows the ticket. Does not block. Fails where there is no such socket (another machine, another
// network name space) or another user's process listens there.
result<LocalConnection> connect_local(const pb::StoreLocal&, size_t window_bytes);

struct ShownTicket {
  std::string ticket;
  int fd = -1;  // of the window; the caller's to close
};
// nullopt: nothing has come yet. invalid: what came is no ticket.
result<std::optional<ShownTicket>> receive_ticket(int fd);

}  // namespace datacloud
