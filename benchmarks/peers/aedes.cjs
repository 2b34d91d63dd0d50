// Starts aedes on a loopback port, with its limits out of the way: node aedes.cjs PORT
'use strict'

const net = require('node:net')

async function main () {
  const port = Number(process.argv[2])
  if (!Number.isInteger(port)) {
    console.error('usage: node aedes.cjs PORT')
    process.exit(2)
  }
  const { Aedes } = await import('aedes')
  const broker = await Aedes.createBroker({ queueLimit: 1_000_000 })
  net.createServer({ noDelay: true }, broker.handle).listen(port, '127.0.0.1')
}

main()
