-- The balancer: DNS on port 53, in front of all nodes that the name NODES has at the moment. For dnsdist 1.7 and later.
--
--   NODES           the name all nodes have in the DNS, such as a compose service      default: node
--   NODE_PORT       where they listen                                                  default: 5300
--   CLIENTS         networks that may ask, separated by commas                         default: private and loopback
--   PROXY_PROTOCOL  yes: tell the nodes who asked, in a PROXY v2 header                default: no

local name = os.getenv("NODES") or "node"
local port = os.getenv("NODE_PORT") or "5300"
local proxy = os.getenv("PROXY_PROTOCOL") == "yes"

setLocal("0.0.0.0:53")
setSecurityPollSuffix("") -- asks nobody about updates
setUDPTimeout(6) -- a node answers within its upstream deadline, 5 s, at the latest
setServFailWhenNoServer(true)
setServerPolicy(leastOutstanding) -- a node that falls silent is passed over before its checks fail

local clients = {}
for network in (os.getenv("CLIENTS") or ""):gmatch("[^,%s]+") do
  table.insert(clients, network)
end
if #clients > 0 then
  setACL(clients)
end

local servers = {} -- by address

local function add(address)
  infolog("node " .. address .. " is new")
  servers[address] = newServer({
    address = address .. ":" .. port,
    name = address,
    sockets = 8, -- the workers of a node share its queries by source port
    useProxyProtocol = proxy,
    -- a node answers this itself: no upstream and no Redis take part
    checkName = "id.server.",
    checkType = "TXT",
    checkClass = DNSClass.CHAOS,
    checkInterval = 1,
    checkTimeout = 1000,
    maxCheckFailures = 1,
  })
end

local function follow(addresses)
  if next(addresses) == nil then
    return -- no answer is no news: the checks tell who is there
  end
  for address in pairs(addresses) do
    if not servers[address] then
      add(address)
    end
  end
  for address, server in pairs(servers) do
    if not addresses[address] then
      infolog("node " .. address .. " is gone")
      rmServer(server)
      servers[address] = nil
    end
  end
end

local function resolve()
  local found = {}
  if getAddressInfo then -- since 1.9
    getAddressInfo(name, function(_, addresses)
      for _, address in pairs(addresses) do
        if address:isIPv4() then
          found[address:toString()] = true
        end
      end
      follow(found)
    end)
    return
  end
  local pipe = io.popen("getent ahostsv4 " .. name)
  for line in pipe:lines() do
    found[line:match("%S+")] = true
  end
  pipe:close()
  follow(found)
end

function maintenance() -- dnsdist calls it every second
  resolve()
end
