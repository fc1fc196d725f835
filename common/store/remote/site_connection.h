// The client's side of a connection to the server of a site, before the store takes it over: who is
// there, and whether it is the site that is wanted.
#pragma once

#include <memory>
#include <string>

#include "common/proto/store.pb.h"
#include "common/rpc/rpc_dial.h"
#include "common/store/remote/remote_store.h"

namespace datacloud {

// Begins to connect; the peer must show the certificate of that site, by our authority.
result<std::unique_ptr<Dial>> dial_site(const RemoteStoreOptions&);
// One request and its answer. Blocks, at most `patience`.
result<pb::StoreReply> ask_site(ByteStream&, pb::StoreRequest, Duration patience);

}  // namespace datacloud
