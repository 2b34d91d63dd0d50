// Starts aedes on a port of the system's choice, and says which; it ends with its input.
'use strict'

const net = require('node:net')

async function main () {
  const { Aedes } = await import('aedes')
  const broker = await Aedes.createBroker()
  const server = net.createServer({ noDelay: true }, broker.handle)
  server.listen(0, '127.0.0.1', () => console.log(server.address().port))
  process.stdin.on('end', () => process.exit(0)).resume()
}

main()
