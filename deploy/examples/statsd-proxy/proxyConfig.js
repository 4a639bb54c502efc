/*
 * For `statsd-proxy -dialect statsd -f proxyConfig.js`: a file as proxy.js of statsd takes it. It is read as JSON5, so
 * comments, unquoted keys, single quotes and trailing commas are fine, and expressions such as process.env.PORT are not.
 */
{
  // Every line goes to one of these, by the hash of its name. adminport answers `health`; without it a node is not checked.
  nodes: [
    {host: '10.0.0.11', port: 8125, adminport: 8126},
    {host: '10.0.0.12', port: 8125, adminport: 8126},
    {host: '10.0.0.13', port: 8125, adminport: 8126},
  ],

  server: './servers/udp', // or './servers/tcp'
  address: '0.0.0.0',
  port: 8125,

  mgmt_address: '127.0.0.1',
  mgmt_port: 8126,

  checkInterval: 1000, // milliseconds
  forkCount: 'auto', // sockets that share the port; no processes are forked
  automaticConfigReload: true,

  // What proxy.js does not know.
  ring: 'statsd', // 'statsd-0.7' places names as statsd 0.7 did
  metricsAddress: '127.0.0.1:9102',
}
